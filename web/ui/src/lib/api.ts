/** REST: the same origin, the session's cookie, problems as exceptions. */

import type { AttemptOutcome, Event, FieldError, Me, Page, Problem, ProblemCode } from './protocol';
import type { StopReason } from './connection';

/** What a receiver made of a message. */
export interface ReceiverAnswer {
  readonly outcome: AttemptOutcome;
  /** Its HTTP status, or the reply code of its mail server. */
  readonly status?: number | null;
  readonly answer?: string | null;
  readonly duration_ms: number;
}

/** An answer that was not a success, or none at all. */
export class ApiError extends Error {
  /** 0 when the hub did not answer. */
  readonly status: number;
  readonly code: ProblemCode | 'unreachable';
  /** Every fault of the body that was sent; empty when the refusal is about something else. */
  readonly errors: readonly FieldError[];
  /** What the receiver of a test message said, when it did not accept it. */
  readonly receiver: ReceiverAnswer | null;

  constructor(
    status: number,
    code: ProblemCode | 'unreachable',
    detail: string,
    errors: readonly FieldError[] = [],
    receiver: ReceiverAnswer | null = null,
  ) {
    super(detail);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.receiver = receiver;
  }
}

let csrfToken: string | null = null;

/** One call; `path` begins after `/api/v1`. */
export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
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
    const { code, detail, title, errors, receiver } = JSON.parse(text) as Partial<Problem> & {
      receiver?: ReceiverAnswer;
    };
    return new ApiError(
      status,
      code ?? 'internal',
      detail ?? title ?? `The hub answered ${status}.`,
      errors,
      receiver,
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
