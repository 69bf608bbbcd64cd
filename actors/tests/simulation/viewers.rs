//! Dashboards: a browser outside the nodes, and its session inside one.
//!
//! A browser comes back with the last number it has. It must get each number once and in order, whichever nodes it
//! comes to, or a snapshot to go on from.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pulse_actors::directory::Directory;
use pulse_actors::home::HomeAddr;
use pulse_actors::link::{Chunk, ViewerId, ViewerLink, ViewerPush};
use pulse_actors::org::{Unwatch, Watch, WatchAnswer};
use pulse_actors::ports::OrgStore;
use pulse_domain::record::JournalEvent;
use pulse_protocol::ids::{EventId, OrgId};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::nodes::Visit;
use crate::reads::NodeReads;
use crate::world::World;

/// How long anything takes from a node to a browser.
const WAY: Duration = Duration::from_millis(1);
/// Missed events that are read at a time: few, so that there are several pages.
const PAGE: u32 = 8;

/// What a browser has.
#[derive(Default)]
pub(crate) struct Browser {
    last: Option<u64>,
    /// The session and its node.
    session: Option<(u64, usize)>,
}

/// What its session brings a browser.
#[derive(Clone, Copy)]
enum Shown {
    Snapshot(u64),
    Event(u64),
    End,
}

impl World {
    pub(crate) fn plan_viewers(self: &Arc<Self>) {
        for viewer in 0..self.plan.viewers.len() {
            self.after(self.between(0, 4_000), move |world| world.open(viewer));
            // People close their laptops.
            let at = self.between(0, self.plan.storm_ms);
            self.after(at, move |world| world.views_end(viewer));
        }
    }

    fn open(self: &Arc<Self>, viewer: usize) {
        let Some(node) = self.any_door() else {
            return self.after(self.between(100, 1_000), move |world| world.open(viewer));
        };
        let number = self.count();
        let last = {
            let browser = &mut self.browsers.lock()[viewer];
            browser.session = Some((number, node));
            browser.last
        };
        self.note(format_args!("v{viewer} session {number} at n{node} after {last:?}"));
        self.visit(node, Visit::Viewer(ViewerEdge::new(self, viewer, number, last)));
    }

    fn views_end(self: &Arc<Self>, viewer: usize) {
        if self.browsers.lock()[viewer].session.take().is_some() {
            self.after(self.between(50, 1_500), move |world| world.open(viewer));
        }
    }

    pub(crate) fn views_fell(self: &Arc<Self>, node: usize) {
        for viewer in 0..self.plan.viewers.len() {
            if self.browsers.lock()[viewer].session.is_some_and(|(_, at)| at == node) {
                self.views_end(viewer);
            }
        }
    }

    fn is_open(&self, viewer: usize, session: u64) -> bool {
        self.browsers.lock()[viewer].session.is_some_and(|(number, _)| number == session)
    }

    fn show(self: &Arc<Self>, viewer: usize, session: u64, shown: Shown) {
        self.after(WAY, move |world| {
            if world.is_open(viewer, session) {
                world.shown(viewer, shown);
            }
        });
    }

    fn shown(self: &Arc<Self>, viewer: usize, shown: Shown) {
        let mut browsers = self.browsers.lock();
        let last = &mut browsers[viewer].last;
        match shown {
            Shown::Snapshot(seq) => *last = Some(seq),
            Shown::Event(seq) => {
                let before = last.replace(seq);
                self.checked(|_| match before {
                    Some(before) if seq != before + 1 => {
                        Err(format!("v{viewer} was shown {seq} after {before}"))
                    }
                    _ => Ok(()),
                });
            }
            Shown::End => {
                drop(browsers);
                self.views_end(viewer);
            }
        }
    }

    /// Why a browser is not at rest yet.
    pub(crate) fn viewer_waits_for(&self, viewer: usize) -> Option<String> {
        let org_id = self.plan.orgs[self.plan.viewers[viewer]].id;
        let head = self.check.lock().head(org_id);
        let last = self.browsers.lock()[viewer].last;
        (last != Some(head)).then(|| format!("v{viewer} has {last:?} of {head}"))
    }
}

enum Phase {
    CatchingUp(Vec<Arc<Chunk>>),
    Live,
}

/// A session: what `pulse-web` does, without the socket.
pub(crate) struct ViewerEdge {
    world: Arc<World>,
    viewer: usize,
    session: u64,
    org_id: OrgId,
    directory: Option<Directory>,
    viewer_id: ViewerId,
    home: Option<HomeAddr>,
    phase: Phase,
    last_seq: Option<u64>,
    /// The last number that this watch was pushed.
    pushed: Option<u64>,
}

/// What was missed.
enum CaughtUp {
    Events { through: u64, events: Vec<JournalEvent> },
    Snapshot(u64),
    Failed,
}

impl ViewerEdge {
    fn new(world: &Arc<World>, viewer: usize, session: u64, after: Option<u64>) -> Self {
        Self {
            world: Arc::clone(world),
            viewer,
            session,
            org_id: world.plan.orgs[world.plan.viewers[viewer]].id,
            directory: None,
            viewer_id: ViewerId(Uuid::nil()),
            home: None,
            phase: Phase::CatchingUp(vec![]),
            last_seq: after,
            pushed: None,
        }
    }

    pub(crate) fn at(mut self, directory: &Directory) -> Self {
        self.directory = Some(directory.clone());
        self
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        self.unwatch();
        let watch = ViewerId(Uuid::from_u128(u128::from(self.world.count())));
        (self.viewer_id, self.pushed) = (watch, None);
        self.phase = Phase::CatchingUp(vec![]);
        let Some(directory) = self.directory.clone() else { return };
        let org_id = self.org_id;
        let finding = async move { directory.home(org_id).await };
        ctx.spawn(finding.into_actor(self).map(move |home, session, ctx| match home {
            _ if session.viewer_id != watch => {}
            Ok(home) => session.ask(home, ctx),
            Err(_) => ctx.stop(),
        }));
    }

    fn ask(&mut self, home: HomeAddr, ctx: &mut Context<Self>) {
        let (watch, after, org_id) = (self.viewer_id, self.last_seq, self.org_id);
        let world = Arc::clone(&self.world);
        let (answer, answered) = oneshot::channel();
        let link = ViewerLink { viewer_id: watch, edge: ctx.address().recipient() };
        let asked = home.send(Watch { link, after, answer });
        self.home = Some(home);
        let answering = async move {
            asked.await.ok()?;
            match answered.await.ok()? {
                WatchAnswer::Snapshot { seq, .. } => {
                    world.checked(|check| check.showed(org_id, seq));
                    Some(CaughtUp::Snapshot(seq))
                }
                WatchAnswer::Resume { durable } => {
                    world.checked(|check| check.showed(org_id, durable));
                    Some(missed(&world, org_id, after.unwrap_or(0), durable).await)
                }
            }
        };
        ctx.spawn(answering.into_actor(self).map(move |caught_up, session, ctx| match caught_up {
            _ if session.viewer_id != watch => {}
            Some(caught_up) => session.caught_up(caught_up, ctx),
            None => session.watch(ctx),
        }));
    }

    fn caught_up(&mut self, caught_up: CaughtUp, ctx: &mut Context<Self>) {
        match caught_up {
            CaughtUp::Snapshot(seq) => {
                self.world.show(self.viewer, self.session, Shown::Snapshot(seq));
                self.last_seq = Some(seq);
                self.go_live();
            }
            CaughtUp::Events { through, events } => {
                for event in events {
                    self.event(event.seq, event.id);
                }
                let last = self.last_seq.unwrap_or(0);
                if last >= through {
                    return self.go_live();
                }
                let (world, org_id, watch) = (Arc::clone(&self.world), self.org_id, self.viewer_id);
                let reading = async move { missed(&world, org_id, last, through).await };
                ctx.spawn(reading.into_actor(self).map(move |caught_up, session, ctx| {
                    if session.viewer_id == watch {
                        session.caught_up(caught_up, ctx);
                    }
                }));
            }
            CaughtUp::Failed => ctx.stop(),
        }
    }

    fn go_live(&mut self) {
        let Phase::CatchingUp(held) = std::mem::replace(&mut self.phase, Phase::Live) else {
            return;
        };
        for chunk in held {
            self.live(&chunk);
        }
    }

    fn live(&mut self, chunk: &Chunk) {
        for frame in &chunk.frames {
            self.event(frame.seq, frame.id);
        }
    }

    fn event(&mut self, seq: u64, id: EventId) {
        if self.last_seq.is_some_and(|last| seq <= last) {
            return;
        }
        self.last_seq = Some(seq);
        self.world.checked(|check| check.pushed(self.org_id, seq, id));
        self.world.show(self.viewer, self.session, Shown::Event(seq));
    }

    /// What one watch is pushed leaves out nothing and says nothing twice.
    fn look_at(&mut self, chunk: &Chunk) {
        for frame in &chunk.frames {
            let before = self.pushed.replace(frame.seq);
            self.world.note(format_args!("v{} is pushed {}", self.viewer, frame.seq));
            self.world.checked(|check| {
                check.pushed(self.org_id, frame.seq, frame.id)?;
                match before {
                    Some(before) if frame.seq != before + 1 => {
                        Err(format!("a watch was pushed {} after {before}", frame.seq))
                    }
                    _ => Ok(()),
                }
            });
        }
    }

    fn unwatch(&mut self) {
        if let Some(home) = self.home.take() {
            home.do_send(Unwatch(self.viewer_id));
        }
    }
}

async fn missed(world: &Arc<World>, org_id: OrgId, after: u64, through: u64) -> CaughtUp {
    if through <= after {
        return CaughtUp::Events { through, events: vec![] };
    }
    match NodeReads(Arc::clone(world)).events_after(org_id, after, PAGE).await {
        Ok(events) if !events.is_empty() => CaughtUp::Events { through, events },
        Ok(_) | Err(_) => CaughtUp::Failed,
    }
}

impl Actor for ViewerEdge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.watch(ctx);
        ctx.run_interval(Duration::from_secs(1), |session, ctx| {
            if !session.world.is_open(session.viewer, session.session) {
                ctx.stop();
            }
        });
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.unwatch();
        self.world.show(self.viewer, self.session, Shown::End);
    }
}

impl Handler<ViewerPush> for ViewerEdge {
    type Result = ();

    fn handle(&mut self, push: ViewerPush, ctx: &mut Context<Self>) {
        match push {
            ViewerPush::Events(chunk) => {
                self.look_at(&chunk);
                match &mut self.phase {
                    Phase::CatchingUp(held) => held.push(chunk),
                    Phase::Live => self.live(&chunk),
                }
            }
            ViewerPush::Ephemeral(_) => {}
            ViewerPush::Lost(viewer_id, _) if viewer_id != self.viewer_id => {}
            ViewerPush::Lost(_, reason) => {
                self.home = None;
                if reason.is_some() {
                    self.last_seq = None;
                }
                self.watch(ctx);
            }
        }
    }
}
