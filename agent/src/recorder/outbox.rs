//! What waits to be stored.

use std::collections::{HashSet, VecDeque};

use pulse_protocol::agent::{AgentFrame, CheckResult, REPORTS_MAX, Report};

/// Frames other than reports that wait while the spool takes nothing; scans and commands are rare.
const FRAMES_MAX: usize = 64;

/// What waits to be stored: results, which share reports, and other frames.
#[derive(Default)]
pub(super) struct Outbox {
    results: Vec<CheckResult>,
    others: VecDeque<AgentFrame>,
}

impl Outbox {
    pub(super) fn push_result(&mut self, result: CheckResult) {
        self.results.push(result);
    }

    pub(super) fn push_frame(&mut self, frame: AgentFrame) {
        self.others.push_back(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.results.len() + self.others.len()
    }

    /// All that waits, as frames without numbers.
    pub(super) fn frames(&self) -> Vec<AgentFrame> {
        let report = |reports: &[CheckResult]| {
            AgentFrame::Report(Report { seq: 0, reports: reports.to_vec() })
        };
        self.results.chunks(REPORTS_MAX).map(report).chain(self.others.iter().cloned()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.results.clear();
        self.others.clear();
    }

    /// Keeps the latest result of each check and the latest other frames, so that waiting costs bounded memory.
    pub(super) fn collapse(&mut self) {
        let mut seen = HashSet::new();
        let mut latest: Vec<_> =
            self.results.drain(..).rev().filter(|result| seen.insert(result.check_id)).collect();
        latest.reverse();
        self.results = latest;
        while self.others.len() > FRAMES_MAX {
            self.others.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::Timestamp;
    use pulse_protocol::agent::Segments;
    use pulse_protocol::ids::CheckId;
    use pulse_protocol::status::DeviceStatus;

    use super::*;

    fn result(check_id: CheckId, at_ms: i64) -> CheckResult {
        CheckResult {
            check_id: Some(check_id),
            device_id: None,
            address: None,
            check: None,
            status: DeviceStatus::Online,
            response_time_ms: None,
            checked_at: Timestamp::from_unix_ms(at_ms),
            error: None,
            tls: None,
        }
    }

    #[test]
    fn results_share_reports_of_at_most_500_in_order() {
        let mut outbox = Outbox::default();
        for at_ms in 0..1001 {
            outbox.push_result(result(CheckId::new(), at_ms));
        }
        let frames = outbox.frames();
        let mut times = Vec::new();
        for frame in &frames {
            let AgentFrame::Report(report) = frame else { panic!("only reports were put in") };
            assert!(report.reports.len() <= REPORTS_MAX);
            times.extend(report.reports.iter().map(|result| result.checked_at.unix_ms()));
        }
        assert_eq!((frames.len(), times), (3, (0..1001).collect()));
    }

    #[test]
    fn waiting_keeps_the_latest_result_of_each_check_in_order_of_time() {
        let (a, b) = (CheckId::new(), CheckId::new());
        let mut outbox = Outbox::default();
        for (check_id, at_ms) in [(a, 1), (b, 2), (a, 3), (b, 4), (a, 5)] {
            outbox.push_result(result(check_id, at_ms));
        }
        for _ in 0..100 {
            outbox.push_frame(AgentFrame::Segments(Segments { seq: 0, networks: Vec::new() }));
        }
        outbox.collapse();
        assert_eq!(outbox.results, [result(b, 4), result(a, 5)]);
        assert_eq!(outbox.others.len(), FRAMES_MAX);
    }
}
