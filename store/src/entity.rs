//! The tables as sea-orm sees them, and their rows as the journal writes them.

use sea_orm::{EntityTrait, ModelTrait, Value};

/// A row that can be written many at a time.
pub(crate) trait Row: ModelTrait<Entity: Default> + Send {
    /// Columns that an upsert leaves as they are.
    const KEPT: &'static [&'static str];

    /// The row's values, in the order of the table's columns.
    fn into_values(self, values: &mut Vec<Value>);
}

/// Where a row's columns are.
pub(crate) type ColumnOf<R> = <<R as ModelTrait>::Entity as EntityTrait>::Column;

/// What can be done with a table, whichever it is.
pub(crate) trait Visit {
    /// Ends the visits.
    type Error;

    /// Does it with the table `name`.
    async fn table<R>(&mut self, name: &'static str) -> Result<(), Self::Error>
    where
        R: Row + 'static,
        R::Entity: EntityTrait<Model = R>;
}

macro_rules! tables {
    ($($(#[$doc:meta])* $module:ident = $table:literal {
        key { $($key:ident: $key_type:ty),* }
        $($column:ident: $type:ty,)*
        $(; kept $($kept:ident)*)?
    })*) => {$(
        $(#[$doc])*
        #[allow(unreachable_pub, reason = "what the derive generates is `pub`, so its parts must be")]
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                $(#[sea_orm(primary_key, auto_increment = false)] pub $key: $key_type,)*
                $(pub $column: $type,)*
            }

            #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}

            impl super::Row for Model {
                const KEPT: &'static [&'static str] = &[$($(stringify!($kept)),*)?];

                fn into_values(self, values: &mut Vec<sea_orm::Value>) {
                    $(values.push(self.$key.into());)*
                    $(values.push(self.$column.into());)*
                }
            }
        }
    )*

    /// Visits every table; those that others refer to come first.
    pub(crate) async fn each<V: Visit>(visitor: &mut V) -> Result<(), V::Error> {
        $(visitor.table::<$module::Model>($table).await?;)*
        Ok(())
    }
    };
}

tables! {
    /// Orgs.
    org = "orgs" {
        key { id: Uuid }
        name: String,
        slug: String,
        plan: String,
        status: String,
        status_reason: Option<String>,
        heartbeat_interval_ms: Option<i64>,
        heartbeat_timeout_ms: Option<i64>,
        offline_grace_ms: Option<i64>,
        created_at: i64,
        changed_at: i64,
        // Written from outside: a home that has not heard of it must not undo it.
        ; kept plan status status_reason changed_at
    }
    /// The number of each org's last event.
    head = "org_heads" {
        key { org_id: Uuid }
        seq: i64,
    }
    /// People.
    user = "users" {
        key { id: Uuid }
        email: String,
        name: String,
        password_hash: String,
        created_at: i64,
    }
    /// Who belongs to which org.
    member = "members" {
        key { org_id: Uuid, user_id: Uuid }
        role: String,
    }
    /// Signed-in browsers.
    session = "sessions" {
        key { cookie_hash: Vec<u8> }
        id: Uuid,
        user_id: Uuid,
        csrf_token: String,
        created_at: i64,
        expires_at: i64,
    }
    /// Tokens of programs.
    api_token = "api_tokens" {
        key { token_hash: Vec<u8> }
        id: Uuid,
        user_id: Uuid,
        org_id: Option<Uuid>,
        name: String,
        created_at: i64,
        expires_at: Option<i64>,
        last_used_at: Option<i64>,
    }
    /// Events of the journals.
    event = "events" {
        key { org_id: Uuid, seq: i64 }
        id: Uuid,
        name: String,
        at: i64,
        data: String,
    }
    /// Agents.
    agent = "agents" {
        key { org_id: Uuid, id: Uuid }
        name: String,
        enabled: bool,
        key_hash: Vec<u8>,
        key_prefix: String,
        previous_key_hash: Option<Vec<u8>>,
        previous_key_until: Option<i64>,
        facts: Option<String>,
        created_at: i64,
    }
    /// How each agent was last announced.
    presence = "agent_presences" {
        key { org_id: Uuid, agent_id: Uuid }
        state: String,
        since: i64,
        last_seen_at: Option<i64>,
        back_by: Option<i64>,
    }
    /// How far each agent's spool is durable.
    position = "agent_positions" {
        key { org_id: Uuid, agent_id: Uuid }
        spool_id: String,
        acked_seq: i64,
    }
    /// Network segments.
    segment = "segments" {
        key { org_id: Uuid, id: Uuid }
        agent_id: Uuid,
        name: String,
        cidr: String,
        interface: String,
        scan_interval_s: i64,
        enabled: bool,
        last_scan_at: Option<i64>,
    }
    /// Devices.
    device = "devices" {
        key { org_id: Uuid, id: Uuid }
        agent_id: Uuid,
        segment_id: Option<Uuid>,
        category_id: Option<Uuid>,
        name: String,
        address: String,
        mac: Option<String>,
        checks: String,
        created_at: i64,
    }
    /// How each device is.
    device_state = "device_states" {
        key { org_id: Uuid, device_id: Uuid }
        status: String,
        known: Option<String>,
        since: i64,
        response_time_ms: Option<f64>,
        checks: String,
    }
    /// Scans. `open_since` is set until the scan has ended.
    scan = "scans" {
        key { org_id: Uuid, id: Uuid }
        agent_id: Uuid,
        segment_id: Uuid,
        segment_name: String,
        state: String,
        started_at: i64,
        finished_at: Option<i64>,
        devices_found: i64,
        devices_new: i64,
        error: Option<String>,
        open_since: Option<i64>,
    }
    /// Commands. `open_since` is set until the command has ended.
    command = "commands" {
        key { org_id: Uuid, id: Uuid }
        agent_id: Uuid,
        kind: String,
        payload: String,
        state: String,
        issued_at: i64,
        deadline: i64,
        result: Option<String>,
        error: Option<String>,
        open_since: Option<i64>,
    }
    /// Channels; `secrets` is sealed.
    channel = "channels" {
        key { org_id: Uuid, id: Uuid }
        name: String,
        kind: String,
        config: String,
        secrets: String,
        enabled: bool,
        health: String,
        retry_schedule: String,
        breaker: String,
        created_at: i64,
    }
    /// Rules.
    rule = "rules" {
        key { org_id: Uuid, id: Uuid }
        name: String,
        event_types: String,
        channel_ids: String,
        settings: String,
        enabled: bool,
        created_at: i64,
    }
    /// Deliveries. `next_attempt_at` is set until the delivery has ended.
    delivery = "deliveries" {
        key { org_id: Uuid, id: Uuid }
        channel_id: Uuid,
        rule_id: Uuid,
        event_id: Uuid,
        event_seq: i64,
        event_name: String,
        resource: String,
        content: String,
        state: String,
        tries: i64,
        next_attempt_at: Option<i64>,
        created_at: i64,
    }
    /// Attempts; the id puts them in order.
    attempt = "delivery_attempts" {
        key { org_id: Uuid, delivery_id: Uuid, id: Uuid }
        at: i64,
        duration_ms: i64,
        outcome: String,
        status: Option<i64>,
        answer: Option<String>,
        error: Option<String>,
    }
    /// Alerts. `due_at` is when it has something to do next.
    alert = "alerts" {
        key { org_id: Uuid, id: Uuid }
        rule_id: Uuid,
        resource: String,
        state: String,
        due_at: Option<i64>,
        updated_at: i64,
    }
    /// Maintenance windows. `next_change_at` is when it opens or closes next.
    maintenance_window = "maintenance_windows" {
        key { org_id: Uuid, id: Uuid }
        settings: String,
        next_change_at: Option<i64>,
        created_at: i64,
    }
    /// Mails of the product; `params` is sealed. `next_attempt_at` is set until the mail has ended.
    mail = "mails" {
        key { org_id: Uuid, id: Uuid }
        template: String,
        key: String,
        recipient: String,
        params: String,
        state: String,
        suppressed_by: Option<String>,
        tries: i64,
        next_attempt_at: Option<i64>,
        expires_at: i64,
        created_at: i64,
        ended_at: Option<i64>,
        status: Option<i64>,
        error: Option<String>,
        claimed_by: Option<Uuid>,
        claimed_until: Option<i64>,
    }
    /// Addresses that get no mail.
    suppression = "mail_suppressions" {
        key { org_id: Uuid, address: String, reason: String }
        created_at: i64,
    }
    /// Who claimed each shard last.
    shard = "shards" {
        key { shard: i32 }
        epoch: i64,
        node: String,
        claimed_at: i64,
    }
}
