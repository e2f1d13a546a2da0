//! Scans and visits: page by page, shard after shard, in either direction.
//!
//! A page never crosses a shard's border. The border itself is where the next page begins, unless the page
//! has no row yet: then the next shard is asked at once.

use super::asking::{Asked, Shared, Target};
use crate::shard_server::{Answer, Failure, ShardServer};
use sharding::ShardDescriptor;
use std::sync::Arc;
use txn::kv::{Changes, Key, ScanPage, ScanRequest, Span, Visitor};
use types::{MaybeReady, Result, Timestamp};

/// A page of a shard, and where the span goes on beyond the shard's border.
type Part = (ScanPage, Option<Key>);

impl Shared {
    pub(super) fn scan(self: &Arc<Self>, mut request: ScanRequest) -> MaybeReady<Result<ScanPage>> {
        while request.span.start < request.span.end {
            let router = self.router.load();
            let route = target(&request).route(&router);
            if !self.answers_here(&route, request.at) {
                break;
            }
            let (part, border) = cut(&request, route.shard);
            match self.local.scan(route.shard.id, part) {
                MaybeReady::Ready(Some(Ok(page))) => {
                    if let Some(page) = finish(page, border, &mut request) {
                        return MaybeReady::ready(Ok(page));
                    }
                }
                MaybeReady::Ready(Some(Err(Failure::Failed(error)))) => {
                    return MaybeReady::ready(Err(error));
                }
                answer => {
                    let asked = Asked::new(self.store, &route);
                    let answer = answer.map(move |page| Ok((page?, border)));
                    let scan = Arc::clone(self).scan_slowly(request, Some((asked, answer)));
                    return MaybeReady::pending(scan);
                }
            }
        }
        if request.span.start >= request.span.end {
            return MaybeReady::ready(Ok(ScanPage::default()));
        }
        MaybeReady::pending(Arc::clone(self).scan_slowly(request, None))
    }

    async fn scan_slowly(
        self: Arc<Self>,
        mut request: ScanRequest,
        mut begun: Option<(Asked, Answer<Part>)>,
    ) -> Result<ScanPage> {
        loop {
            let whole = clone(&request, request.span.clone());
            let ask = move |server: &dyn ShardServer, asked: &Asked| -> Answer<Part> {
                let (part, border) = cut(&whole, &asked.shard);
                let answer = server.scan(asked.shard.id, part);
                answer.map(move |page| Ok((page?, border)))
            };
            let asking = Arc::clone(&self).ask(target(&request), begun.take(), ask);
            let (page, border) = asking.await?;
            if let Some(page) = finish(page, border, &mut request) {
                return Ok(page);
            }
        }
    }

    /// Only of shards that are believed to be answered for here.
    pub(super) fn visit(
        &self,
        request: &ScanRequest,
        show: &mut Visitor<'_>,
    ) -> Option<Result<Option<Key>>> {
        if request.span.start >= request.span.end {
            return Some(Ok(None));
        }
        let router = self.router.load();
        let route = target(request).route(&router);
        if !self.answers_here(&route, request.at) {
            return None;
        }
        let (part, border) = cut(request, route.shard);
        match self.local.visit(route.shard.id, &part, show)? {
            Ok(resume) => Some(Ok(resume.or(border))),
            Err(Failure::Failed(error)) => Some(Err(error)),
            Err(Failure::Refused(_) | Failure::Unreachable(_)) => None,
        }
    }

    /// Known only if all shards of the span are held here for the whole time.
    pub(super) fn changes(&self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        let router = self.router.load();
        let mut shards = 0;
        let mut keys = Vec::new();
        for route in router.overlapping(&span.start, Some(&span.end)) {
            let part = within(span, route.shard);
            match self.local.changes(route.shard.id, &part, after, upto) {
                Changes::Keys(more) if keys.is_empty() => keys = more,
                Changes::Keys(more) => keys.extend(more),
                Changes::Unknown => return Changes::Unknown,
            }
            shards += 1;
        }
        if shards > 1 {
            keys.sort_by_key(|(at, _)| *at);
        }
        Changes::Keys(keys)
    }
}

/// The shard in which the page begins.
fn target(request: &ScanRequest) -> Target {
    match request.reverse {
        false => Target::At(request.span.start.clone()),
        true => Target::Before(request.span.end.clone()),
    }
}

fn clone(request: &ScanRequest, span: Span) -> ScanRequest {
    ScanRequest {
        span,
        at: request.at,
        reverse: request.reverse,
        limit: request.limit,
        limit_bytes: request.limit_bytes,
    }
}

fn within(span: &Span, shard: &ShardDescriptor) -> Span {
    let end = match &shard.end {
        Some(end) if *end < span.end => end,
        _ => &span.end,
    };
    Span {
        start: span.start.clone().max(shard.start.clone()),
        end: end.clone(),
    }
}

/// The part of the request that lies in the shard in which it begins, and the border at which the rest
/// goes on, if there is one.
fn cut(request: &ScanRequest, shard: &ShardDescriptor) -> (ScanRequest, Option<Key>) {
    let span = within(&request.span, shard);
    let border = match request.reverse {
        false => (span.end < request.span.end).then(|| span.end.clone()),
        true => (span.start > request.span.start).then(|| span.start.clone()),
    };
    (clone(request, span), border)
}

/// The page with the right `resume`. `None`: it has no rows, and the request is what is left.
fn finish(mut page: ScanPage, border: Option<Key>, request: &mut ScanRequest) -> Option<ScanPage> {
    if page.resume.is_some() {
        return Some(page);
    }
    match border {
        Some(border) if page.rows.is_empty() => {
            match request.reverse {
                false => request.span.start = border,
                true => request.span.end = border,
            }
            None
        }
        border => {
            page.resume = border;
            Some(page)
        }
    }
}
