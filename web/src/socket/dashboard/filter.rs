//! What a viewer wants to see.

use std::collections::HashSet;

use pulse_actors::link::EncodedFrame;
use pulse_protocol::ids::AgentId;
use serde::Deserialize;

/// Narrows what is pushed. An empty list narrows nothing.
#[derive(Debug)]
pub(super) struct Filter {
    agents: HashSet<AgentId>,
    events: HashSet<String>,
}

#[derive(Deserialize)]
struct Frame {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    agent_id: Option<AgentId>,
}

impl Filter {
    /// The filter, or none if it lets everything through.
    pub(super) fn new(agents: Vec<AgentId>, events: Vec<String>) -> Option<Self> {
        let filter =
            Self { agents: agents.into_iter().collect(), events: events.into_iter().collect() };
        (!filter.agents.is_empty() || !filter.events.is_empty()).then_some(filter)
    }

    /// Whether the viewer wants this event.
    pub(super) fn lets_through(&self, frame: &EncodedFrame) -> bool {
        (self.events.is_empty() || self.events.contains(&*frame.name))
            && (self.agents.is_empty() || self.is_of_wanted_agent(frame))
    }

    fn is_of_wanted_agent(&self, frame: &EncodedFrame) -> bool {
        let agent_id =
            serde_json::from_slice::<Frame>(&frame.json).ok().and_then(|frame| frame.data.agent_id);
        agent_id.is_some_and(|id| self.agents.contains(&id))
    }
}

/// The frame with `seq_through`: everything up to that number was sent or skipped on purpose.
pub(super) fn with_seq_through(frame: &EncodedFrame, through: u64) -> Vec<u8> {
    let mut json = frame.json.to_vec();
    // The frame is a JSON object made by the hub, so it ends with its brace.
    json.pop();
    json.extend_from_slice(format!(",\"seq_through\":{through}}}").as_bytes());
    json
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pulse_protocol::dashboard::DashboardFrame;
    use pulse_protocol::ids::EventId;
    use serde_json::json;

    use super::*;

    fn frame(agent_id: AgentId) -> EncodedFrame {
        let id = EventId::new();
        let json = json!({
            "type": "event", "seq": 7, "id": id, "event": "agent.online",
            "at": "2026-03-01T12:00:00.000Z", "data": {"agent_id": agent_id, "name": "a"},
        });
        EncodedFrame {
            seq: 7,
            id,
            name: "agent.online".into(),
            json: Bytes::from(json.to_string()),
        }
    }

    #[test]
    fn both_lists_must_let_it_through() {
        let (one, other) = (AgentId::new(), AgentId::new());
        assert!(Filter::new(vec![], vec![]).is_none());
        let by_name = Filter::new(vec![], vec!["agent.offline".to_owned()]).unwrap();
        assert!(!by_name.lets_through(&frame(one)));
        let by_agent = Filter::new(vec![one], vec!["agent.online".to_owned()]).unwrap();
        assert!(by_agent.lets_through(&frame(one)));
        assert!(!by_agent.lets_through(&frame(other)));
    }

    #[test]
    fn seq_through_is_part_of_the_frame() {
        let json = with_seq_through(&frame(AgentId::new()), 9);
        match serde_json::from_slice(&json).unwrap() {
            DashboardFrame::Event { seq: 7, seq_through: Some(9), .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
