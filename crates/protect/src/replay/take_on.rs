//! From a private server that recovered a backup to one that has the log as well.

use ballast_mysql::{ThrowawayOptions, ThrowawayServer};

use super::plan::ReplayPlan;
use super::replica::Replica;
use super::{Replayed, replay};
use crate::context::Context;
use crate::error::Result;
use crate::restore_plan::RestorePlan;

/// Replays, and starts the server anew, as one that never replayed: what it has then lies in the directory, and grant tables are not
/// in use, so that it can be looked at.
pub(crate) async fn take_on(
    context: &Context,
    plan: &RestorePlan,
    what: &ReplayPlan,
    server: ThrowawayServer,
    again: ThrowawayOptions,
) -> Result<(ThrowawayServer, Replayed)> {
    let replica = Replica::open(context, &server, &plan.binary.version).await?;
    let replayed = Box::pin(replay(context, &plan.from, what, &replica)).await?;
    replica.close().await;
    server.stop().await?;
    let server = ThrowawayServer::start(&plan.binary, again, &context.cancel).await?;
    Ok((server, replayed))
}
