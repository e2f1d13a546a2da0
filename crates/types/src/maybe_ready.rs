//! A result that is usually here already.
//!
//! A read on the gateway's own replica finishes without waiting; a read on another node does not.
//! Boxing a future for the first case would cost more than the read, so both share this type.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Either a value or the future of one. Awaiting a `Ready` never yields.
pub enum MaybeReady<T> {
    Ready(Option<T>),
    Pending(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> MaybeReady<T> {
    pub fn ready(value: T) -> Self {
        MaybeReady::Ready(Some(value))
    }

    pub fn pending(future: impl Future<Output = T> + Send + 'static) -> Self {
        MaybeReady::Pending(Box::pin(future))
    }

    /// Changes the value now or when it comes.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> MaybeReady<U>
    where
        T: 'static,
    {
        match self {
            MaybeReady::Ready(value) => MaybeReady::Ready(value.map(change)),
            MaybeReady::Pending(future) => MaybeReady::pending(async move { change(future.await) }),
        }
    }
}

impl<T: Unpin> Future for MaybeReady<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            MaybeReady::Ready(value) => {
                Poll::Ready(value.take().expect("MaybeReady polled after completion"))
            }
            MaybeReady::Pending(future) => future.as_mut().poll(cx),
        }
    }
}
