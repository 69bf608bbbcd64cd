//! Maintenance windows.

use std::time::Duration;

use pulse_domain::request::{Refusal, Request};
use pulse_protocol::api::{
    DeliveryState, Filters, MaintenanceWindowPatch, Recurrence, Suppression,
};
use pulse_protocol::status::DeviceStatus::{Offline, Online};

use crate::site::{MINUTE, Site};

#[test]
fn a_maintenance_window_opens_holds_back_and_closes() {
    let mut site = Site::new();
    site.add_rule(site.new_rule());
    site.window(MINUTE, 10 * MINUTE);
    let before = site.hub.org.seq();
    site.hub.live_through(2 * MINUTE);
    site.all_are(Offline);
    site.is(0, Online);
    assert_eq!(site.told().len(), 4);
    assert!(site.deliveries().iter().all(|it| it.state == DeliveryState::Suppressed));
    assert_eq!(site.alerts()[0].held_by, Some(Suppression::Maintenance));
    site.hub.restart();
    site.returns();
    site.hub.live_through(10 * MINUTE);
    assert_eq!(
        site.told()[4..],
        ["device.offline device 1 alert", "device.offline device 2 alert"]
    );
    let told = site.hub.told_since(before);
    let of_window: Vec<_> = told.iter().filter(|name| name.starts_with("maintenance")).collect();
    assert_eq!(of_window, [&"maintenance.started", &"maintenance.ended"]);
}

#[test]
fn a_window_that_is_cut_short_or_removed_lets_go_at_once() {
    for removes in [false, true] {
        let mut site = Site::new();
        site.add_rule(site.new_rule());
        let window_id = site.window(Duration::ZERO, 60 * MINUTE);
        site.is(0, Offline);
        site.hub.live_through(10 * MINUTE);
        assert_eq!(site.told(), ["device.offline device 0 maintenance"]);
        let request = match removes {
            true => Request::RemoveWindow(window_id),
            false => {
                let ends_at = Some(site.hub.now - MINUTE);
                let patch = MaintenanceWindowPatch { ends_at, ..MaintenanceWindowPatch::default() };
                Request::PatchWindow(window_id, patch)
            }
        };
        site.hub.ask(request).unwrap();
        assert_eq!(site.told()[1..], ["device.offline device 0 alert"]);
        let ended = site.hub.told_since(0).iter().filter(|it| **it == "maintenance.ended").count();
        assert_eq!(ended, 1);
    }
}

#[test]
fn a_window_of_another_resource_holds_nothing_back() {
    let mut site = Site::new();
    site.add_rule(site.new_rule());
    let window_id = site.window(Duration::ZERO, 60 * MINUTE);
    let filters = Some(Filters { device_ids: vec![site.devices[0]], ..Filters::default() });
    let patch = MaintenanceWindowPatch { filters, ..MaintenanceWindowPatch::default() };
    site.hub.ask(Request::PatchWindow(window_id, patch)).unwrap();
    site.are(&[0, 1], Offline);
    let expected = ["device.offline device 0 maintenance", "device.offline device 1 alert"];
    assert_eq!(site.told(), expected);
}

#[test]
fn a_bad_window_is_refused() {
    let mut site = Site::new();
    let window_id = site.window(MINUTE, MINUTE);
    let patches: [(MaintenanceWindowPatch, &str); 6] = [
        (MaintenanceWindowPatch { name: Some(String::new()), ..Default::default() }, "name"),
        (MaintenanceWindowPatch { ends_at: Some(site.hub.now), ..Default::default() }, "ends_at"),
        (
            MaintenanceWindowPatch {
                ends_at: Some(site.hub.now + MINUTE * 60 * 24 * 8),
                ..Default::default()
            },
            "ends_at",
        ),
        (
            MaintenanceWindowPatch { timezone: Some("Mars/Base".into()), ..Default::default() },
            "timezone",
        ),
        (
            MaintenanceWindowPatch {
                recurrence: Some(Some(Recurrence::Weekly)),
                ..Default::default()
            },
            "days",
        ),
        (MaintenanceWindowPatch { until: Some(Some(site.hub.now)), ..Default::default() }, "until"),
    ];
    for (patch, field) in patches {
        let refused = site.hub.ask(Request::PatchWindow(window_id, patch)).unwrap_err();
        let Refusal::Invalid(faults) = refused else { panic!("{field}: {refused:?}") };
        assert_eq!(faults[0].field, field);
    }
}
