/** Calls of notifications. */

import { ApiError, type ReceiverAnswer, request } from '../api';
import type {
  Alert,
  AlertState,
  Channel,
  ChannelCreated,
  Delivery,
  MaintenanceWindow,
  Page,
  Preview,
  Rule,
} from '../protocol';
import { type DeliveryQuery, queryText } from './deliveries';

/** Most pages of a list that is wanted whole; the hub allows fewer channels and rules than that holds. */
const PAGES_MAX = 10;
const PAGE = 100;

type Body = Readonly<Record<string, unknown>>;

async function all<T>(path: string, pages = PAGES_MAX): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < pages; page += 1) {
    const from: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const answer: Page<T> = await request('GET', `${path}limit=${PAGE}${from}`);
    items.push(...answer.items);
    cursor = answer.next_cursor;
    if (cursor === null) break;
  }
  return items;
}

/** Most alerts of one state that are asked for. */
export const ALERTS_MAX = 5 * PAGE;

export function alerts(org: string, state: AlertState): Promise<Alert[]> {
  return all(`/orgs/${org}/alerts?state=${state}&`, ALERTS_MAX / PAGE);
}

export function acknowledge(org: string, alert: string): Promise<Alert> {
  return request('POST', `/orgs/${org}/alerts/${alert}/acknowledge`);
}

export function createChannel(org: string, body: Body): Promise<ChannelCreated> {
  return request('POST', `/orgs/${org}/channels`, body);
}

export function changeChannel(org: string, channel: string, body: Body): Promise<Channel> {
  return request('PATCH', `/orgs/${org}/channels/${channel}`, body);
}

export function removeChannel(org: string, channel: string): Promise<void> {
  return request('DELETE', `/orgs/${org}/channels/${channel}`);
}

export function enableChannel(org: string, channel: string): Promise<Channel> {
  return request('POST', `/orgs/${org}/channels/${channel}/enable`);
}

export function rotateSecret(org: string, channel: string): Promise<ChannelCreated> {
  return request('POST', `/orgs/${org}/channels/${channel}/rotate-secret`);
}

/** Sends a test message; a refusal of the receiver is an error that tells its answer. */
export function testChannel(org: string, channel: string): Promise<ReceiverAnswer> {
  return request('POST', `/orgs/${org}/channels/${channel}/test`);
}

export function rules(org: string): Promise<Rule[]> {
  return all(`/orgs/${org}/rules?`);
}

export function createRule(org: string, body: Body): Promise<Rule> {
  return request('POST', `/orgs/${org}/rules`, body);
}

export function changeRule(org: string, rule: string, body: Body): Promise<Rule> {
  return request('PATCH', `/orgs/${org}/rules/${rule}`, body);
}

export function removeRule(org: string, rule: string): Promise<void> {
  return request('DELETE', `/orgs/${org}/rules/${rule}`);
}

export function previewRule(org: string, body: Body): Promise<Preview> {
  return request('POST', `/orgs/${org}/rules/preview`, body);
}

export function deliveries(
  org: string,
  query: DeliveryQuery,
  limit: number,
  cursor: string | null = null,
): Promise<Page<Delivery>> {
  const text = queryText(query, { limit: String(limit), cursor });
  return request('GET', `/orgs/${org}/deliveries${text}`);
}

export function delivery(org: string, id: string): Promise<Delivery> {
  return request('GET', `/orgs/${org}/deliveries/${id}`);
}

/** Sends one again, under the same id. */
export function replay(org: string, id: string): Promise<Delivery> {
  return request('POST', `/orgs/${org}/deliveries/${id}/replay`);
}

export function discard(org: string, id: string): Promise<Delivery> {
  return request('POST', `/orgs/${org}/deliveries/${id}/discard`);
}

/** What became of a replay of many. */
export interface Replayed {
  readonly replayed: number;
  readonly skipped: number;
  /** There are more than one request takes. */
  readonly more: boolean;
}

export function replayMany(org: string, body: Body): Promise<Replayed> {
  return request('POST', `/orgs/${org}/deliveries/replay`, body);
}

export function windows(org: string): Promise<MaintenanceWindow[]> {
  return all(`/orgs/${org}/maintenance-windows?`);
}

export function createWindow(org: string, body: Body): Promise<MaintenanceWindow> {
  return request('POST', `/orgs/${org}/maintenance-windows`, body);
}

export function changeWindow(org: string, window: string, body: Body): Promise<MaintenanceWindow> {
  return request('PATCH', `/orgs/${org}/maintenance-windows/${window}`, body);
}

export function removeWindow(org: string, window: string): Promise<void> {
  return request('DELETE', `/orgs/${org}/maintenance-windows/${window}`);
}

/** One mail of the hub's own to one recipient. */
export interface Mail {
  readonly id: string;
  /** Which of the hub's mails it is. */
  readonly template: string;
  readonly recipient: string;
  readonly state: Delivery['state'];
  readonly suppressed_by?: Delivery['suppressed_by'];
  readonly created_at: string;
  readonly attempts: Delivery['attempts'];
  readonly next_attempt_at?: string;
  /** Why it ended without being accepted. */
  readonly error?: string;
}

/** A page of mails, newest first; null when this hub keeps none. */
export async function mails(org: string, cursor: string | null): Promise<Page<Mail> | null> {
  const from = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
  try {
    return await request('GET', `/orgs/${org}/mails?limit=50${from}`);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 405)) return null;
    throw error;
  }
}

export function replayMail(org: string, mail: string): Promise<unknown> {
  return request('POST', `/orgs/${org}/mails/${mail}/replay`);
}
