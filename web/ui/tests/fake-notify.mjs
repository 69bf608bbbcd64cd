// The part of the fake hub that tells: channels, rules, alerts, deliveries, windows and mails, as a test left them.

const ago = (s) => new Date(Date.now() - s * 1000).toISOString();
const ahead = (s) => ago(-s);
export const id = (prefix, n) => `${prefix}_${String(n).padStart(26, '0')}`;

/** What the lists hold when a hub is filled. */
export function samples(devices) {
  const named = (i) => devices[i % devices.length]?.name ?? 'nas';
  return {
    channels: [
      channel(0, 'pager', 'webhook', { url: 'https://receiver.example.org/0' }),
      {
        ...channel(1, 'ticket system', 'webhook', {
          url: 'https://receiver.example.org/tickets',
          headers: { 'X-Team': '********' },
        }),
        health: 'degraded',
        failing_since: ago(2400),
        paused_until: ahead(200),
      },
      {
        ...channel(2, 'old receiver', 'slack', {
          webhook_url: 'https://hooks.slack.com/services/********',
        }),
        enabled: false,
        health: 'disabled',
      },
      channel(3, 'on call', 'email', { recipients: ['kim@example.org', 'lee@example.org'] }),
      {
        ...channel(4, 'night shift', 'telegram', { bot_token: '********', chat_id: '-100123' }),
        health: 'needs_attention',
        failing_since: ago(90_000),
      },
    ],
    rules: [
      rule(0, 'Anything offline', ['agent.offline', 'device.offline'], [0, 3], {
        description: 'The first to know.',
        escalation: { after_s: 900, channel_ids: [id('chn', 4)] },
      }),
      rule(1, 'Degraded by day', ['device.degraded'], [1], {
        cooldown_s: 3600,
        min_duration_s: 120,
        grouping: 'digest',
        quiet_hours: { from: '20:00', to: '07:00', timezone: 'Europe/Berlin', days: [1, 2, 3] },
        filters: { agent_ids: [id('agt', 0)] },
      }),
      rule(2, 'Failed scans', ['scan.failed'], [], { enabled: false }),
    ],
    alerts: [
      alert(0, 'firing', named(3), { told_at: ago(400), escalates_at: ahead(500) }),
      alert(1, 'firing', named(26), {
        told_at: ago(300),
        acknowledged_at: ago(200),
        acknowledged_by: 'lee@example.org',
      }),
      alert(2, 'pending', named(49), { held_by: 'maintenance' }),
      alert(3, 'flapping', named(5), { told_at: ago(1300) }),
      alert(4, 'resolved', named(8), {
        told_at: ago(8000),
        acknowledged_at: ago(7000),
        acknowledged_by: 'link',
      }),
      alert(5, 'resolved', named(9), {}),
    ],
    deliveries: ['dead', 'retrying', 'queued', 'suppressed', 'delivered', 'delivered'].map(
      (state, i) => delivery(10 - i, state, i, named(3 * i)),
    ),
    windows: [
      window(0, 'Move of the server room', true, { ends_at: ahead(3600) }),
      window(1, 'Nightly backup', false, { recurrence: 'weekly', days: [1, 3, 5] }),
    ],
    mails: [
      mail(2, 'trial_expiring', 'dead', [
        { at: ago(50), duration_ms: 90, outcome: 'permanent', status: 550, error: 'no such user' },
      ]),
      mail(1, 'welcome', 'delivered', [
        { at: ago(900), duration_ms: 120, outcome: 'accepted', status: 250 },
      ]),
    ],
  };
}

/** Answers a request below `/orgs/{org}/`; false for what is none of its routes. */
export function answer(hub, { method, path, params, body }, { json, problem }) {
  const [resource, item, verb] = path.split('/');
  const lists = {
    alerts: hub.alerts,
    channels: hub.channels,
    rules: hub.rules,
    deliveries: hub.deliveries,
    'maintenance-windows': hub.windows,
    mails: hub.mails,
  };
  const list = lists[resource];
  if (!list) return false;
  hub.asked.push({ method, path, params: Object.fromEntries(params), body });

  if (method === 'GET' && !item) {
    json(200, { items: list.filter((each) => fits(each, params)), next_cursor: null });
  } else if (method === 'POST' && path === 'rules/preview') {
    json(200, hub.preview);
  } else if (method === 'POST' && path === 'deliveries/replay') {
    const dead = list.filter((each) => each.state === 'dead');
    dead.forEach((each) => turn(hub, each, 'queued'));
    json(200, { replayed: dead.length, skipped: 0, more: false });
  } else if (method === 'POST' && !item) {
    create(hub, resource, list, body, { json, problem });
  } else {
    const found = list.find((each) => each.id === item);
    if (!found) problem(404, 'not_found', 'There is no such thing.');
    else change(hub, resource, list, found, { method, verb, body }, { json, problem });
  }
  return true;
}

function create(hub, resource, list, body, { json, problem }) {
  if (body.name === '') {
    const errors = [{ field: 'name', code: 'required', message: 'must not be empty' }];
    if (body.config?.url === '') {
      errors.push({ field: 'config.url', code: 'invalid', message: 'must be a URL' });
    }
    return problem(422, 'validation_failed', 'The body is not good.', { errors });
  }
  const made = { ...DEFAULTS[resource], ...withoutNull(body), id: id('new', list.length) };
  list.push(made);
  json(201, made.kind === 'webhook' ? { ...made, secret: 'whsec_c2VjcmV0' } : made);
  if (resource === 'channels') {
    hub.tell('channel.created', { channel_id: made.id, name: made.name, channel: made });
  }
}

function change(hub, resource, list, found, { method, verb, body }, { json, problem }) {
  if (method === 'GET') return json(200, found);
  if (method === 'DELETE') {
    list.splice(list.indexOf(found), 1);
    json(204);
    if (resource === 'channels') {
      hub.tell('channel.removed', { channel_id: found.id, name: found.name });
    }
    return undefined;
  }
  if (verb === 'test') {
    return found.health === 'healthy'
      ? json(200, { outcome: 'accepted', status: 200, answer: 'thank you', duration_ms: 42 })
      : problem(502, 'delivery_failed', 'the receiver did not accept the message', {
          receiver: { outcome: 'retry', status: 503, answer: 'gone fishing', duration_ms: 31 },
        });
  }
  if (verb === 'rotate-secret') return json(200, { ...found, secret: 'whsec_bmV3' });
  if (verb === 'acknowledge') {
    const now = new Date().toISOString();
    Object.assign(found, { acknowledged_at: now, acknowledged_by: 'kim@example.org' });
    json(200, found);
    return hub.tell('alert.acknowledged', {
      alert_id: found.id,
      name: found.resource_name,
      alert: found,
    });
  }
  if (verb === 'replay' || verb === 'discard') {
    if (resource === 'deliveries') turn(hub, found, verb === 'replay' ? 'queued' : 'discarded');
    else found.state = 'queued';
    return json(200, found);
  }
  Object.assign(found, verb === 'enable' ? { enabled: true, health: 'healthy' } : body);
  json(200, found);
  if (resource === 'channels') {
    hub.tell('channel.updated', { channel_id: found.id, name: found.name, channel: found });
  }
  return undefined;
}

/** Moves a delivery on, and says so. */
export function turn(hub, delivery, state, more = {}) {
  delivery.state = state;
  delete delivery.next_attempt_at;
  hub.tell(`delivery.${state}`, {
    delivery_id: delivery.id,
    name: 'pager',
    channel_id: delivery.channel_id,
    rule_id: delivery.rule_id,
    event_id: delivery.event_id,
    event_type: delivery.event,
    resource_name: delivery.resource_name,
    reason: delivery.reason,
    state,
    attempts: delivery.attempts.length,
    ...more,
  });
}

function fits(item, params) {
  const wanted = (key, value) => !params.get(key) || params.get(key) === value;
  const text = `${item.resource_name} ${item.event}`;
  return (
    wanted('state', item.state) &&
    wanted('channel', item.channel_id) &&
    wanted('event', item.event) &&
    text.includes(params.get('q') ?? '')
  );
}

const DEFAULTS = {
  channels: { enabled: true, health: 'healthy' },
  rules: { filters: {} },
  'maintenance-windows': { open: false },
};

function withoutNull(body) {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}

function channel(n, name, kind, config) {
  return { id: id('chn', n), name, kind, config, enabled: true, health: 'healthy' };
}

function rule(n, name, event_types, channels, more) {
  return {
    id: id('rul', n),
    name,
    event_types,
    channel_ids: channels.map((each) => id('chn', each)),
    filters: {},
    cooldown_s: 300,
    min_duration_s: 0,
    grouping: 'agent',
    flap_detection: true,
    enabled: true,
    ...more,
  };
}

function alert(n, state, resource_name, more) {
  return {
    id: id('alr', n),
    rule_id: id('rul', 0),
    rule_name: 'Anything offline',
    resource_id: id('dev', n),
    resource_name,
    state,
    event: 'device.offline',
    seq: 1,
    since: ago(450 + 900 * n),
    ...more,
  };
}

export function delivery(n, state, age, resource_name) {
  const failed = (s, status, error) => ({
    at: ago(s),
    duration_ms: 12,
    outcome: 'retry',
    ...(status ? { status, answer: 'upstream is not there' } : {}),
    ...(error ? { error } : {}),
  });
  const accepted = { at: ago(60), duration_ms: 34, outcome: 'accepted', status: 200, answer: 'ok' };
  const attempts = {
    dead: [failed(700, 503), failed(400, null, 'no answer within 15,000 ms'), failed(90, 503)],
    retrying: [failed(90, 503)],
    delivered: [accepted],
  };
  return {
    id: id('dlv', n),
    event_id: id('evt', 1),
    seq: 1,
    event: 'device.offline',
    rule_id: id('rul', 0),
    channel_id: id('chn', age % 2),
    resource_name,
    reason: 'alert',
    state,
    created_at: ago(800 + 60 * age),
    attempts: attempts[state] ?? [],
    ...(state === 'retrying' ? { next_attempt_at: ahead(60) } : {}),
    ...(state === 'suppressed' ? { suppressed_by: 'cooldown' } : {}),
    ...(state === 'delivered' ? { recipient: 'kim@example.org', channel_id: id('chn', 3) } : {}),
  };
}

function window(n, name, open, more) {
  return {
    id: id('mnt', n),
    name,
    filters: n === 0 ? { segment_ids: [id('seg', 0)] } : {},
    starts_at: ago(1800),
    ends_at: ahead(5400),
    timezone: 'Europe/Berlin',
    open,
    next_change_at: ahead(3600 * (n + 1)),
    ...more,
  };
}

function mail(n, template, state, attempts) {
  return {
    id: id('dlv', 1000 + n),
    template,
    recipient: 'kim@example.org',
    state,
    created_at: ago(1000 - n),
    expires_at: ahead(90_000),
    attempts,
    ...(state === 'dead' ? { error: attempts.at(-1).error } : {}),
  };
}

/** What a rule would have told. */
export const PREVIEW = {
  from: ago(7 * 86_400),
  to: ago(0),
  events: 1234,
  truncated: false,
  sent: 3,
  suppressed: 1,
  items: [
    ['alert', 'switch 1', null],
    ['alert', 'switch 1', 'cooldown'],
    ['recovery', 'camera 2', null],
    ['alert', 'camera 2', null],
  ].map(([reason, resource_name, suppressed], i) => ({
    at: ago(5000 * (i + 1)),
    event: reason === 'recovery' ? 'device.online' : 'device.offline',
    seq: 100 - i,
    resource_name,
    reason,
    ...(suppressed ? { suppressed } : {}),
  })),
};
