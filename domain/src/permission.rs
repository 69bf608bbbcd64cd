//! Who may do what: the only table.

use pulse_protocol::api::Role;

/// One right that a member of an org may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See what is monitored, how it is, and what was told to whom.
    View,
    /// See what the org pays for.
    ViewBilling,
    /// Change the org's settings.
    ManageOrg,
    /// Enrol, change, command and remove agents; see their keys once.
    ManageAgents,
    /// Add, change and remove devices and their checks.
    ManageDevices,
    /// Change channels, rules and maintenance windows; test channels; replay and discard deliveries.
    ManageChannels,
    /// Say that somebody looks after an alert.
    AcknowledgeAlerts,
}

impl Permission {
    /// Every right.
    pub const ALL: &'static [Self] = &[
        Self::View,
        Self::ViewBilling,
        Self::ManageOrg,
        Self::ManageAgents,
        Self::ManageDevices,
        Self::ManageChannels,
        Self::AcknowledgeAlerts,
    ];

    /// Whether a member with this role has this right.
    #[must_use]
    pub const fn is_given_to(self, role: Role) -> bool {
        match self {
            Self::View => true,
            Self::ManageDevices | Self::AcknowledgeAlerts => {
                matches!(role, Role::Owner | Role::Admin | Role::Editor)
            }
            Self::ViewBilling | Self::ManageOrg | Self::ManageAgents | Self::ManageChannels => {
                matches!(role, Role::Owner | Role::Admin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rights grow along `Role::ALL` read backwards: nobody has a right that a higher role lacks.
    #[test]
    fn a_higher_role_has_every_right_of_a_lower_one() {
        for permission in Permission::ALL {
            for pair in Role::ALL.windows(2) {
                assert!(
                    permission.is_given_to(pair[0]) || !permission.is_given_to(pair[1]),
                    "{permission:?}: {} lacks what {} has",
                    pair[0],
                    pair[1],
                );
            }
        }
    }

    #[test]
    fn a_viewer_only_looks() {
        let rights: Vec<_> =
            Permission::ALL.iter().filter(|p| p.is_given_to(Role::Viewer)).collect();
        assert_eq!(rights, [&Permission::View]);
    }

    #[test]
    fn an_editor_changes_devices_but_neither_agents_nor_channels() {
        assert!(Permission::ManageDevices.is_given_to(Role::Editor));
        assert!(!Permission::ManageAgents.is_given_to(Role::Editor));
        assert!(!Permission::ManageChannels.is_given_to(Role::Editor));
    }
}
