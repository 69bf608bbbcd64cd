/** What is asked of a channel, by kind; and from the form to the body of a request and back. */

import type { Channel, ChannelKind, JsonValue } from '../protocol';
import { formatSchedule, parseSchedule } from './schedule';

/** One thing to fill in. */
export interface ConfigField {
  /** Its name in the configuration. */
  readonly key: string;
  readonly label: string;
  /** `lines`: a list, one a line. `headers`: a map, `Name: value` a line. */
  readonly input: 'text' | 'url' | 'lines' | 'headers';
  readonly hint: string;
  readonly optional?: boolean;
  /** It is shown masked, and sent back as it is shown it keeps its value. */
  readonly secret?: boolean;
}

const text = (key: string, label: string, hint: string, more: Partial<ConfigField> = {}) =>
  ({ key, label, input: 'text', hint, ...more }) as const;

const webhookUrl = (hint: string) =>
  text('webhook_url', 'Webhook URL', hint, { input: 'url', secret: true });

export const CONFIG_FIELDS: Readonly<Record<ChannelKind, readonly ConfigField[]>> = {
  webhook: [
    text('url', 'URL', 'Gets a signed POST for every message.', { input: 'url' }),
    text('headers', 'Headers', 'One a line, such as X-Team: network. Values are secret.', {
      input: 'headers',
      optional: true,
      secret: true,
    }),
  ],
  email: [text('recipients', 'Recipients', 'One address a line.', { input: 'lines' })],
  slack: [webhookUrl('An incoming webhook of your Slack app.')],
  teams: [
    webhookUrl(
      'Of a Microsoft Teams workflow: post to a channel when a webhook request is received.',
    ),
  ],
  discord: [webhookUrl('From the channel’s settings, under Integrations.')],
  telegram: [
    text('bot_token', 'Bot token', 'BotFather tells it.', { secret: true }),
    text('chat_id', 'Chat id', 'A number, or the @name of a public channel.'),
  ],
  pagerduty: [
    text('routing_key', 'Routing key', 'Of an Events API v2 integration.', { secret: true }),
  ],
  ntfy: [
    text('topic', 'Topic', 'Who knows it can read along, unless the server asks for a token.'),
    text('server', 'Server', 'Empty: https://ntfy.sh.', { input: 'url', optional: true }),
    text('token', 'Access token', 'Where the server asks for one.', {
      optional: true,
      secret: true,
    }),
  ],
};

export const KINDS = Object.keys(CONFIG_FIELDS) as readonly ChannelKind[];

/** What the form holds: text only. */
export interface ChannelForm {
  name: string;
  kind: ChannelKind;
  config: Record<string, string>;
  schedule: string;
  enabled: boolean;
}

export function emptyChannel(): ChannelForm {
  return { name: '', kind: 'email', config: {}, schedule: '', enabled: true };
}

export function channelForm(channel: Channel): ChannelForm {
  const stored = object(channel.config);
  const config: Record<string, string> = {};
  for (const field of fieldsOf(channel.kind)) config[field.key] = shown(field, stored[field.key]);
  return {
    name: channel.name,
    kind: channel.kind,
    config,
    schedule: formatSchedule(channel.retry_schedule_s ?? []),
    enabled: channel.enabled,
  };
}

/** The body of a request, to make a channel or to change `stored`, whose unknown fields stay as they are. */
export function channelBody(form: ChannelForm, stored: Channel | null): Record<string, unknown> {
  const fields = fieldsOf(form.kind);
  const unknown = Object.entries(stored ? object(stored.config) : {}).filter(
    ([key]) => !fields.some((field) => field.key === key),
  );
  const config: Record<string, unknown> = Object.fromEntries(unknown);
  for (const field of fields) {
    const value = parsed(field, form.config[field.key] ?? '');
    if (value !== undefined) config[field.key] = value;
    // A secret that is left out keeps its value; only `null` removes it.
    else if (stored && field.input !== 'headers') config[field.key] = null;
  }
  const retry_schedule_s = parseSchedule(form.schedule);
  const name = form.name.trim();
  if (stored) return { name, config, enabled: form.enabled, retry_schedule_s };
  const schedule = retry_schedule_s.length > 0 ? { retry_schedule_s } : {};
  return { name, kind: form.kind, config, enabled: form.enabled, ...schedule };
}

/** Where a channel delivers to, in a few words. */
export function channelTarget(channel: Channel): string {
  const config = object(channel.config);
  const recipients = config['recipients'];
  if (Array.isArray(recipients)) {
    const [first = '', ...others] = recipients.map(String);
    return others.length > 0 ? `${first} and ${others.length} more` : first;
  }
  const word = (key: string) => (typeof config[key] === 'string' ? (config[key] as string) : '');
  if (channel.kind === 'ntfy') {
    const server = word('server') || 'https://ntfy.sh';
    return `${server.replace(/\/$/, '')}/${word('topic')}`;
  }
  return word('url') || word('webhook_url') || word('chat_id') || word('routing_key');
}

function fieldsOf(kind: ChannelKind): readonly ConfigField[] {
  return CONFIG_FIELDS[kind] ?? [];
}

function object(value: JsonValue | undefined): Record<string, JsonValue | undefined> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
}

function shown(field: ConfigField, value: JsonValue | undefined): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(String).join('\n');
  if (field.input === 'headers') {
    return Object.entries(object(value))
      .map(([name, header]) => `${name}: ${String(header)}`)
      .join('\n');
  }
  return String(value);
}

function parsed(field: ConfigField, value: string): unknown {
  if (field.input === 'lines') return lines(value);
  if (field.input === 'headers') {
    const headers = lines(value, /\n/).map((line) => {
      const colon = line.indexOf(':');
      return colon < 0 ? [line, ''] : [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
    });
    return headers.length > 0 ? Object.fromEntries(headers) : undefined;
  }
  const trimmed = value.trim();
  return trimmed === '' && field.optional ? undefined : trimmed;
}

function lines(value: string, between = /[\n,;]/): string[] {
  return value
    .split(between)
    .map((line) => line.trim())
    .filter(Boolean);
}
