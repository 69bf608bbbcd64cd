/** REST: the same origin, the session's cookie, problems as exceptions. */

import type { Delivery, Event, Me, Page, Problem, ProblemCode } from './protocol';
import type { StopReason } from './connection';

/** An answer that was not a success, or none at all. */
export class ApiError extends Error {
  /** 0 when the hub did not answer. */
  readonly status: number;
  readonly code: ProblemCode | 'unreachable';

  constructor(status: number, code: ProblemCode | 'unreachable', detail: string) {
    super(detail);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
  }
}

let csrfToken: string | null = null;

async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (method !== 'GET' && csrfToken !== null) headers['x-csrf-token'] = csrfToken;
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(
      0,
      'unreachable',
      'The hub does not answer. Check the network and try again.',
    );
  }
  const text = await response.text();
  if (!response.ok) {
    throw problem(response.status, text);
  }
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

function problem(status: number, text: string): ApiError {
  try {
    const { code, detail, title } = JSON.parse(text) as Partial<Problem>;
    return new ApiError(
      status,
      code ?? 'internal',
      detail ?? title ?? `The hub answered ${status}.`,
    );
  } catch {
    return new ApiError(status, 'internal', `The hub answered ${status}.`);
  }
}

/** Who is signed in. */
export async function me(): Promise<Me> {
  const answer = await request<Me>('GET', '/me');
  csrfToken = answer.csrf_token;
  return answer;
}

/** Signs in; the session is in the cookie afterwards. */
export async function login(email: string, password: string): Promise<Me> {
  const answer = await request<{ csrf_token: string }>('POST', '/auth/login', { email, password });
  csrfToken = answer.csrf_token;
  return me();
}

/** Ends the session. */
export async function logout(): Promise<void> {
  await request('POST', '/auth/logout');
  csrfToken = null;
}

/** Up to `limit` events of the journal after number `after`, oldest first. */
export async function eventsAfter(org: string, after: number, limit: number): Promise<Event[]> {
  const path = `/orgs/${org}/events?after=${after}&limit=${limit}`;
  return (await request<Page<Event>>('GET', path)).items;
}

/** The latest deliveries. */
export async function deliveries(org: string, limit: number): Promise<Delivery[]> {
  return (await request<Page<Delivery>>('GET', `/orgs/${org}/deliveries?limit=${limit}`)).items;
}

/** Sends a dead delivery again, under the same id. */
export async function replay(org: string, delivery: string): Promise<void> {
  await request('POST', `/orgs/${org}/deliveries/${delivery}/replay`);
}

/** Why a dashboard session of this org may be refused; null when it should not be. */
export async function whyRefused(org: string): Promise<StopReason | null> {
  try {
    await request('GET', `/orgs/${org}`);
    return null;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) return 'signed_out';
    if (error.code === 'org_suspended' || error.code === 'org_cancelled') return 'suspended';
    return error.status === 403 || error.status === 404 ? 'no_org' : null;
  }
}
