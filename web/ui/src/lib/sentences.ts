/** One sentence per event, for people. */

import type { AgentState, Cause, DeviceStatus, Event, EventBody, Suppression } from './protocol';
import { responseTime } from './format';

export type Tone = 'good' | 'bad' | 'warn' | 'plain';

/** What a feed entry says. `subject` is the resource's name; `text` follows it. */
export interface Sentence {
  readonly subject: string;
  readonly text: string;
  readonly tone: Tone;
}

export const AGENT_WORDS: Readonly<Record<AgentState, string>> = {
  online: 'Online',
  lingering: 'Lingering',
  offline: 'Offline',
  never_connected: 'Never connected',
  disabled: 'Disabled',
};

export const DEVICE_WORDS: Readonly<Record<DeviceStatus, string>> = {
  online: 'Online',
  degraded: 'Degraded',
  offline: 'Offline',
  unknown: 'Unknown',
};

const CAUSES: Readonly<Record<Cause, string>> = {
  connected: 'it connected',
  connection_closed: 'its connection closed',
  heartbeat_timeout: 'its heartbeats stopped',
  reported: 'its agent reported it',
  agent_offline: 'its agent is offline',
  bye_overdue: 'it said it would be back, and is not',
  bye: 'it said it was shutting down',
  check: 'a check decided it',
  disabled: 'it was switched off',
};

/** Why a status changed, as half a sentence. */
export function causeText(cause: Cause): string {
  return CAUSES[cause] ?? cause;
}

const SUPPRESSIONS: Readonly<Record<Suppression, string>> = {
  cooldown: 'told of within the cooldown',
  flapping: 'it changes to and fro',
  maintenance: 'a maintenance window is open',
  quiet_hours: 'the rule’s quiet hours',
  not_told: 'nothing was told before',
  recipient: 'the recipient takes no mail',
  mail_not_configured: 'the hub cannot send mail',
};

/** Why a message is not sent, as half a sentence. */
export function suppressionText(by: Suppression): string {
  return SUPPRESSIONS[by] ?? by;
}

/** Who acknowledged an alert: a mail address, or whoever followed the message's link. */
export function acknowledger(by: string): string {
  return by === 'link' ? 'the message’s link' : by;
}

/** The sentence of an event. A name of a later version gets a plain one. */
export function sentence(event: Event): Sentence {
  const body = { event: event.event, data: event.data } as unknown as EventBody;
  const name = typeof event.data['name'] === 'string' ? event.data['name'] : '';
  const [text, tone] = describe(body);
  return { subject: name, text, tone };
}

function describe(body: EventBody): [string, Tone] {
  switch (body.event) {
    case 'agent.enrolled':
      return ['was enrolled', 'plain'];
    case 'agent.online':
      return body.data.previous === 'never_connected'
        ? ['connected for the first time', 'good']
        : ['is online', 'good'];
    case 'agent.offline':
      return [`is offline: ${causeText(body.data.cause)}`, 'bad'];
    case 'agent.updated':
      return [body.data.segments ? 'reported its networks' : 'was updated', 'plain'];
    case 'agent.removed':
      return ['was removed, with its devices', 'plain'];
    case 'device.discovered':
      return [body.data.scan_id ? 'was discovered by a scan' : 'was added', 'plain'];
    case 'device.online': {
      const time = body.data.response_time_ms;
      return [
        time === null ? 'is online' : `is online, answering in ${responseTime(time)}`,
        'good',
      ];
    }
    case 'device.offline':
      return [`is offline${why(body.data.error)}`, 'bad'];
    case 'device.degraded':
      return [`is degraded${why(body.data.error)}`, 'warn'];
    case 'device.unknown':
      return [`is unknown: ${causeText(body.data.cause)}`, 'plain'];
    case 'device.updated':
      return ['was updated', 'plain'];
    case 'device.removed':
      return ['was removed', 'plain'];
    case 'scan.started':
      return ['is being scanned', 'plain'];
    case 'scan.completed': {
      const { devices_found, devices_new } = body.data;
      return [`was scanned: ${devices_found} found, ${devices_new} new`, 'plain'];
    }
    case 'scan.failed':
      return [`could not be scanned${why(body.data.error)}`, 'warn'];
    case 'command.issued':
      return ['command was issued', 'plain'];
    case 'command.delivered':
      return ['command reached its agent', 'plain'];
    case 'command.succeeded':
      return ['command succeeded', 'good'];
    case 'command.failed':
      return [`command failed${why(body.data.error)}`, 'bad'];
    case 'command.expired':
      return ['command expired before its agent took it', 'warn'];
    case 'delivery.queued':
      return [`will be sent ${body.data.event_type}`, 'plain'];
    case 'delivery.delivered':
      return [`accepted ${body.data.event_type}`, 'good'];
    case 'delivery.retrying':
      return [`did not accept ${body.data.event_type}, retrying${why(body.data.error)}`, 'warn'];
    case 'delivery.dead':
      return [`never accepted ${body.data.event_type}, given up${why(body.data.error)}`, 'bad'];
    case 'delivery.suppressed':
      return [
        `is not told of ${body.data.event_type}${heldBack(body.data.suppressed_by)}`,
        'plain',
      ];
    case 'delivery.superseded':
      return [`will not be sent ${body.data.event_type}: a newer message replaced it`, 'plain'];
    case 'delivery.discarded':
      return [`will not be sent ${body.data.event_type}: discarded by a person`, 'plain'];
    case 'alert.acknowledged': {
      const by = body.data.alert?.acknowledged_by;
      return [`alert was acknowledged${by ? ` by ${acknowledger(by)}` : ''}`, 'good'];
    }
    case 'maintenance.started':
      return ['maintenance began', 'plain'];
    case 'maintenance.ended':
      return ['maintenance ended', 'plain'];
    case 'channel.created':
      return ['channel was created', 'plain'];
    case 'channel.updated':
      return ['channel was updated', 'plain'];
    case 'channel.healthy':
      return ['channel delivers again', 'good'];
    case 'channel.degraded':
      return [`channel has trouble delivering${why(body.data.reason)}`, 'warn'];
    case 'channel.disabled':
      return [`channel was disabled${why(body.data.reason)}`, 'bad'];
    case 'channel.removed':
      return ['channel was removed', 'plain'];
    case 'org.updated':
      return [`changed its ${body.data.changed || 'settings'}`, 'plain'];
    case 'org.suspended':
      return [`was suspended${why(body.data.reason)}`, 'bad'];
    case 'org.cancelled':
      return [`was cancelled${why(body.data.reason)}`, 'bad'];
    case 'org.reactivated':
      return ['was reactivated', 'good'];
    default:
      return [(body as { event: string }).event, 'plain'];
  }
}

function heldBack(by: Suppression | undefined): string {
  return by ? `: ${suppressionText(by)}` : '';
}

function why(reason: string | null | undefined): string {
  return reason ? `: ${reason}` : '';
}
