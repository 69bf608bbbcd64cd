//! Which resources a rule or a maintenance window is about. A list that names a set fails closed when the event has no
//! such resource.

use pulse_protocol::api::Filters;
use pulse_protocol::ids::{AgentId, CategoryId, DeviceId, SegmentId};

/// What an event is about, as filters see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its id as text; empty for one that has none.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The agent it is, or that watches it.
    pub agent_id: Option<AgentId>,
    /// The device it is.
    pub device_id: Option<DeviceId>,
    /// The segment it is, or that it is in.
    pub segment_id: Option<SegmentId>,
    /// The category it is in.
    pub category_id: Option<CategoryId>,
}

/// Whether every list that is not empty names what `subject` has.
#[must_use]
pub fn passes(filters: &Filters, subject: &Subject) -> bool {
    names(&filters.agent_ids, subject.agent_id)
        && names(&filters.device_ids, subject.device_id)
        && names(&filters.segment_ids, subject.segment_id)
        && names(&filters.category_ids, subject.category_id)
}

fn names<Id: PartialEq>(list: &[Id], id: Option<Id>) -> bool {
    list.is_empty() || id.is_some_and(|id| list.contains(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n28_a_filter_fails_closed_and_an_empty_one_takes_everything() {
        let (agent, device, segment, category) =
            (AgentId::new(), DeviceId::new(), SegmentId::new(), CategoryId::new());
        let whole = Subject {
            agent_id: Some(agent),
            device_id: Some(device),
            segment_id: Some(segment),
            category_id: Some(category),
            ..Subject::default()
        };
        let none = Subject::default();
        let lists = [
            Filters { agent_ids: vec![AgentId::new(), agent], ..Filters::default() },
            Filters { device_ids: vec![device], ..Filters::default() },
            Filters { segment_ids: vec![segment], ..Filters::default() },
            Filters { category_ids: vec![category], ..Filters::default() },
        ];
        for filters in &lists {
            assert!(passes(filters, &whole), "{filters:?}");
            assert!(!passes(filters, &none), "{filters:?} lets through what has no such thing");
        }
        let other = Filters { agent_ids: vec![AgentId::new()], ..lists[1].clone() };
        assert!(!passes(&other, &whole), "every list must name it");
        assert!(passes(&Filters::default(), &none));
    }
}
