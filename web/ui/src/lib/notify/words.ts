/** Words, shapes and colours of notifications. */

import type { IconName } from '../icons';
import type {
  AlertState,
  AttemptOutcome,
  Channel,
  ChannelHealth,
  ChannelKind,
  DeliveryState,
  EventBody,
  Grouping,
  Reason,
} from '../protocol';

/** How something is: a word, a shape, a colour. */
export interface Mark {
  readonly text: string;
  readonly icon: IconName;
  readonly tone: 'good' | 'warn' | 'bad' | 'quiet';
}

function mark(text: string, icon: IconName, tone: Mark['tone']): Mark {
  return { text, icon, tone };
}

const HEALTHS: Readonly<Record<ChannelHealth, Mark>> = {
  healthy: mark('Healthy', 'online', 'good'),
  degraded: mark('Degraded', 'degraded', 'warn'),
  needs_attention: mark('Needs attention', 'offline', 'bad'),
  disabled: mark('Disabled', 'disabled', 'quiet'),
};

const DELIVERIES: Readonly<Record<DeliveryState, Mark>> = {
  queued: mark('Queued', 'lingering', 'quiet'),
  retrying: mark('Retrying', 'degraded', 'warn'),
  delivered: mark('Delivered', 'online', 'good'),
  dead: mark('Dead', 'offline', 'bad'),
  suppressed: mark('Suppressed', 'disabled', 'quiet'),
  superseded: mark('Superseded', 'disabled', 'quiet'),
  discarded: mark('Discarded', 'disabled', 'quiet'),
};

const ALERTS: Readonly<Record<AlertState, Mark>> = {
  firing: mark('Firing', 'offline', 'bad'),
  flapping: mark('Flapping', 'degraded', 'warn'),
  pending: mark('Pending', 'lingering', 'quiet'),
  resolved: mark('Resolved', 'online', 'good'),
};

const OUTCOMES: Readonly<Record<AttemptOutcome, Mark>> = {
  accepted: mark('Accepted', 'online', 'good'),
  retry: mark('Try again', 'degraded', 'warn'),
  permanent: mark('Refused', 'offline', 'bad'),
  gone: mark('Gone', 'offline', 'bad'),
};

/** The mark of a word of a later version is the word itself. */
function known(marks: Readonly<Record<string, Mark>>, word: string): Mark {
  return marks[word] ?? mark(word, 'info', 'quiet');
}

export function channelMark({ enabled, health }: Pick<Channel, 'enabled' | 'health'>): Mark {
  return known(HEALTHS, enabled ? health : 'disabled');
}

export function deliveryMark(state: DeliveryState): Mark {
  return known(DELIVERIES, state);
}

export function alertMark(state: AlertState): Mark {
  return known(ALERTS, state);
}

export function outcomeMark(outcome: AttemptOutcome): Mark {
  return known(OUTCOMES, outcome);
}

export const DELIVERY_STATES = Object.keys(DELIVERIES) as readonly DeliveryState[];

export const KIND_NAMES: Readonly<Record<ChannelKind, string>> = {
  webhook: 'Webhook',
  email: 'E-mail',
  slack: 'Slack',
  teams: 'Teams',
  discord: 'Discord',
  telegram: 'Telegram',
  pagerduty: 'PagerDuty',
  ntfy: 'ntfy',
};

const REASONS: Readonly<Record<Reason, string>> = {
  event: 'Event',
  alert: 'Alert',
  recovery: 'Recovery',
  escalation: 'Escalation',
  flapping: 'Flapping',
  digest: 'Digest',
};

export function reasonText(reason: Reason): string {
  return REASONS[reason] ?? reason;
}

export const GROUPINGS: readonly (readonly [Grouping, string])[] = [
  ['agent', 'One for an agent and its devices'],
  ['digest', 'One for all within a minute'],
  ['none', 'One for each'],
];

/** Monday to Sunday, 1 to 7. */
export const DAYS: readonly string[] = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** Such as `Mon, Wed`; `every day` for all and for none. */
export function daysText(days: readonly number[]): string {
  if (days.length === 0 || days.length === DAYS.length) return 'every day';
  return [...days]
    .sort((a, b) => a - b)
    .map((day) => DAYS[day - 1])
    .join(', ');
}

type EventName = EventBody['event'];

/** What every event is called; the type makes sure that none is forgotten. */
const EVENTS: Readonly<Record<EventName, string>> = {
  'agent.offline': 'goes offline',
  'agent.online': 'comes online',
  'agent.enrolled': 'is enrolled',
  'agent.updated': 'is changed',
  'agent.removed': 'is removed',
  'device.offline': 'goes offline',
  'device.degraded': 'becomes degraded',
  'device.unknown': 'becomes unknown',
  'device.online': 'comes online',
  'device.discovered': 'is discovered',
  'device.updated': 'is changed',
  'device.removed': 'is removed',
  'scan.started': 'starts',
  'scan.completed': 'completes',
  'scan.failed': 'fails',
  'command.issued': 'is issued',
  'command.delivered': 'reaches its agent',
  'command.succeeded': 'succeeds',
  'command.failed': 'fails',
  'command.expired': 'expires',
  'alert.acknowledged': 'is acknowledged',
  'channel.degraded': 'has trouble',
  'channel.disabled': 'is disabled',
  'channel.healthy': 'delivers again',
  'channel.created': 'is created',
  'channel.updated': 'is changed',
  'channel.removed': 'is removed',
  'delivery.dead': 'is given up',
  'delivery.queued': 'is queued',
  'delivery.delivered': 'is accepted',
  'delivery.retrying': 'fails and is retried',
  'delivery.suppressed': 'is held back',
  'delivery.superseded': 'is superseded',
  'delivery.discarded': 'is discarded',
  'maintenance.started': 'begins',
  'maintenance.ended': 'ends',
  'org.updated': 'is changed',
  'org.suspended': 'is suspended',
  'org.cancelled': 'is cancelled',
  'org.reactivated': 'is reactivated',
};

const SUBJECTS: Readonly<Record<string, string>> = {
  agent: 'An agent',
  device: 'A device',
  scan: 'A scan',
  command: 'A command',
  alert: 'An alert',
  channel: 'A channel',
  delivery: 'A delivery',
  maintenance: 'Maintenance',
  org: 'The organisation',
};

/** Events of one kind of thing, for a form. */
export interface EventGroup {
  /** Such as `An agent`; what its events are called follows it. */
  readonly subject: string;
  readonly events: readonly { readonly name: string; readonly label: string }[];
}

/** All events by what they are about; `more` are names that a rule holds and this page does not know. */
export function eventGroups(more: readonly string[] = []): EventGroup[] {
  const groups = new Map<string, { name: string; label: string }[]>();
  const add = (name: string, label: string) => {
    const kind = name.split('.')[0] ?? name;
    groups.set(kind, [...(groups.get(kind) ?? []), { name, label }]);
  };
  for (const [name, label] of Object.entries(EVENTS)) add(name, label);
  for (const name of more) if (!(name in EVENTS)) add(name, name);
  return [...groups].map(([kind, events]) => ({ subject: SUBJECTS[kind] ?? kind, events }));
}

/** All event names, in the order of the form. */
export const EVENT_NAMES = Object.keys(EVENTS) as readonly EventName[];

/** The name of a mail's template as people read it: `Trial expiring`. */
export function mailName(template: string): string {
  const words = template.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
