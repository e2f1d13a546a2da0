//! Whoever runs the cluster: has it give up a node whose disk is gone, and split shards; and looks at the map in the end.

use super::MILLI;
use super::client::{Board, Gateway};
use crate::dice::Dice;
use crate::executor::Machines;
use crate::network::OUTSIDE;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use membership::service::Intent;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::StoreId;

/// Until somebody has noticed that a disk is gone, at most.
const NOTICE_NANOS: u64 = 3000 * MILLI;
/// How long a node may take to answer before another one is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// After a while, tells one node after the other that `lost` will never come back, until one has noted it.
pub(super) fn give_up(
    lost: StoreId,
    board: Arc<Mutex<Board>>,
    machines: &Machines,
    mut dice: Dice,
) {
    let env = machines.env(OUTSIDE);
    let clock = Arc::clone(&env.clock);
    let work = async move {
        let notice = Duration::from_nanos(dice.below(NOTICE_NANOS));
        clock.sleep(notice).await;
        loop {
            let gateway = {
                let board = board.lock();
                let place = dice.below(board.gateways.len() as u64) as usize;
                board.gateways.values().nth(place).cloned()
            };
            let (tell, told) = oneshot::channel();
            if let Some(gateway) = gateway {
                let store = gateway.store;
                let ask = async move {
                    // Whoever asked may have gone on to another one.
                    let _ = tell.send(store.intend(lost, Intent::Decommission).await.is_ok());
                };
                gateway.env.spawn.spawn("operator", Box::pin(ask));
            }
            match select(told, clock.sleep(PATIENCE)).await {
                Either::Left((Ok(true), _)) => return,
                Either::Left(_) => clock.sleep(Duration::from_millis(100)).await,
                Either::Right(_) => {}
            }
        }
    };
    env.spawn.spawn("operator", Box::pin(work));
}

/// Has a node see to it that a shard begins at a key. It may fail, and is not tried again.
pub(super) fn split(gateway: Gateway, at: String, board: Arc<Mutex<Board>>) {
    let store = gateway.store;
    let ask = async move {
        if let Ok(split) = store
            .split_at(Bytes::from(at), "somebody asks for it")
            .await
        {
            board.lock().splits += u64::from(split.is_new);
        }
    };
    gateway.env.spawn.spawn("operator", Box::pin(ask));
}

/// Has all nodes tell their shards and the rows of the map, anew.
pub(super) fn look_at_map(board: &Arc<Mutex<Board>>) {
    let gateways: Vec<Gateway> = {
        let mut board = board.lock();
        board.descriptors.clear();
        board.maps.clear();
        board.gateways.values().cloned().collect()
    };
    for gateway in gateways {
        let (store, board) = (gateway.store, Arc::clone(board));
        let ask = async move {
            let report = store.report().await;
            let rows = store.map().await;
            let mut board = board.lock();
            let replicas = report.replicas.into_iter();
            board
                .descriptors
                .extend(replicas.map(|replica| replica.descriptor));
            board.maps.push(rows);
        };
        gateway.env.spawn.spawn("operator", Box::pin(ask));
    }
}
