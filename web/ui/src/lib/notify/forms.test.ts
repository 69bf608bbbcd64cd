import { describe, expect, it } from 'vitest';

import { ApiError } from '../api';
import type { Channel, ChannelKind, JsonValue, MaintenanceWindow, Rule } from '../protocol';
import {
  type ChannelForm,
  channelBody,
  channelForm,
  channelTarget,
  CONFIG_FIELDS,
  emptyChannel,
  KINDS,
} from './channel';
import { faultsOf, WHOLE } from './faults';
import { conditionsText, emptyRule, ruleBody, ruleForm } from './rule';
import { formatSchedule, inUnit, parseSchedule, ScheduleError, toSeconds } from './schedule';
import {
  emptyWindow,
  recurrenceText,
  sortWindows,
  windowBody,
  windowFaults,
  windowForm,
} from './window';

function channel(kind: ChannelKind, config: JsonValue, more: Partial<Channel> = {}): Channel {
  return { id: 'chn_1', name: 'a', kind, config, enabled: true, health: 'healthy', ...more };
}

/** What every kind looks like in the form, and as it is stored and shown. */
const CONFIGS: Readonly<Record<ChannelKind, [ChannelForm['config'], JsonValue]>> = {
  webhook: [
    { url: 'https://example.org/hook', headers: 'X-A: 1\nX-B: b: c' },
    { url: 'https://example.org/hook', headers: { 'X-A': '1', 'X-B': 'b: c' } },
  ],
  email: [
    { recipients: 'kim@example.org\nlee@example.org' },
    { recipients: ['kim@example.org', 'lee@example.org'] },
  ],
  slack: [{ webhook_url: 'https://x/********' }, { webhook_url: 'https://x/********' }],
  teams: [{ webhook_url: 'https://x/t' }, { webhook_url: 'https://x/t' }],
  discord: [{ webhook_url: 'https://x/d' }, { webhook_url: 'https://x/d' }],
  telegram: [
    { bot_token: '********', chat_id: '-100' },
    { bot_token: '********', chat_id: '-100' },
  ],
  pagerduty: [{ routing_key: '********' }, { routing_key: '********' }],
  ntfy: [
    { topic: 'alerts', server: 'https://ntfy.example.org/', token: '********' },
    { topic: 'alerts', server: 'https://ntfy.example.org/', token: '********' },
  ],
};

describe('the form of a channel', () => {
  it.each(KINDS)('of kind %s becomes the body, and is what the channel shows', (kind) => {
    const [form, config] = CONFIGS[kind];
    const body = channelBody({ ...emptyChannel(), name: ' a ', kind, config: form }, null);
    expect(body).toEqual({ name: 'a', kind, config, enabled: true });
    const shown = channel(kind, config);
    expect(channelForm(shown).config).toEqual(form);
    // Saved as it is shown, it says what is stored: masks keep their secrets.
    expect(channelBody(channelForm(shown), shown)['config']).toEqual(config);
  });

  it('sends nothing for what is optional and empty, and empty text for what is not', () => {
    const empty = (kind: ChannelKind) =>
      channelBody({ ...emptyChannel(), kind, config: {} }, null)['config'];
    expect(empty('ntfy')).toEqual({ topic: '' });
    expect(empty('webhook')).toEqual({ url: '' });
    expect(empty('email')).toEqual({ recipients: [] });
  });

  it('takes recipients however they are pasted, and a header without a colon to be refused', () => {
    const body = (kind: ChannelKind, config: Record<string, string>) =>
      channelBody({ ...emptyChannel(), kind, config }, null)['config'];
    expect(body('email', { recipients: 'a@x, b@x;\n c@x ' })).toEqual({
      recipients: ['a@x', 'b@x', 'c@x'],
    });
    expect(body('webhook', { url: 'u', headers: 'X-A' })).toEqual({
      url: 'u',
      headers: { 'X-A': '' },
    });
  });

  it('keeps what it does not know, and takes out a secret that was emptied', () => {
    const stored = channel('ntfy', { topic: 't', server: 'u', token: '****', priority: 4 });
    const form = channelForm(stored);
    form.config['token'] = '';
    expect(channelBody(form, stored)['config']).toEqual({
      topic: 't',
      server: 'u',
      token: null,
      priority: 4,
    });
  });

  it('says an empty schedule of a stored channel, so that it goes back to the hub’s own', () => {
    const stored = channel('slack', { webhook_url: 'u' }, { retry_schedule_s: [5, 300] });
    const form = channelForm(stored);
    expect(form.schedule).toBe('5 s, 5 min');
    form.schedule = '';
    expect(channelBody(form, stored)['retry_schedule_s']).toEqual([]);
    form.schedule = '1 h';
    expect(channelBody(form, null)['retry_schedule_s']).toEqual([3600]);
  });

  it('of a kind of a later version asks for nothing and keeps all', () => {
    const stored = channel('carrier_pigeon' as ChannelKind, { loft: 'north' });
    expect(channelBody(channelForm(stored), stored)['config']).toEqual({ loft: 'north' });
  });

  it('shows where it delivers to', () => {
    expect(channelTarget(channel('email', CONFIGS.email[1]))).toBe('kim@example.org and 1 more');
    expect(channelTarget(channel('ntfy', CONFIGS.ntfy[1]))).toBe('https://ntfy.example.org/alerts');
    expect(channelTarget(channel('ntfy', { topic: 'a' }))).toBe('https://ntfy.sh/a');
    expect(channelTarget(channel('slack', CONFIGS.slack[1]))).toBe('https://x/********');
    expect(channelTarget(channel('webhook', null))).toBe('');
    expect(CONFIG_FIELDS.slack[0]?.secret).toBe(true);
  });
});

describe('waits', () => {
  it('are read with and without units, and written in the largest that fits', () => {
    expect(parseSchedule('5, 30s, 5 min; 2 h\n1d')).toEqual([5, 30, 300, 7200, 86_400]);
    expect(formatSchedule([0, 5, 90, 300, 7200])).toBe('0 s, 5 s, 90 s, 5 min, 2 h');
    expect(parseSchedule(' ')).toEqual([]);
    for (const text of ['soon', '5 fortnights', '-5', '1.5 h', '5 constructor']) {
      expect(() => parseSchedule(text), text).toThrow(ScheduleError);
    }
  });

  it('keep their length in every unit', () => {
    for (const seconds of [0, 1, 59, 60, 90, 3600, 5400, 86_400]) {
      const { amount, unit } = inUnit(seconds);
      expect(toSeconds(amount, unit)).toBe(seconds);
    }
    expect(toSeconds(1.5, 'min')).toBe(90);
  });
});

const rule: Rule = {
  id: 'rul_1',
  name: 'nights',
  event_types: ['agent.offline'],
  channel_ids: ['chn_1'],
  filters: { agent_ids: ['agt_1'], category_ids: ['cat_1'] },
  cooldown_s: 300,
  min_duration_s: 60,
  grouping: 'digest',
  flap_detection: false,
  quiet_hours: { from: '22:00', to: '06:00', timezone: 'Europe/Berlin', days: [6, 7] },
  escalation: { after_s: 900, channel_ids: ['chn_2'] },
  enabled: true,
};

describe('the form of a rule', () => {
  it('becomes the rule it was made of', () => {
    const body = ruleBody(ruleForm(rule));
    expect({ id: rule.id, ...body }).toEqual({ ...rule, description: null });
  });

  it('removes what is switched off', () => {
    const form = { ...ruleForm(rule), quiet: false, escalates: false, filters: { agent_ids: [] } };
    expect(ruleBody(form)).toMatchObject({ quiet_hours: null, escalation: null, filters: {} });
  });

  it('starts as the hub would fill it in', () => {
    expect(ruleBody(emptyRule())).toMatchObject({
      cooldown_s: 300,
      min_duration_s: 0,
      grouping: 'agent',
      flap_detection: true,
      quiet_hours: null,
      escalation: null,
      enabled: true,
    });
  });

  it('says its conditions', () => {
    expect(conditionsText(rule)).toBe(
      'when wrong for 1 min · each at most once in 5 min · one for all within a minute' +
        ' · quiet 22:00 to 06:00 Sat, Sun · escalates after 15 min',
    );
  });
});

const berlin: MaintenanceWindow = {
  id: 'mnt_1',
  name: 'backup',
  filters: {},
  starts_at: '2026-03-02T01:00:00.000Z',
  ends_at: '2026-03-02T03:30:00.000Z',
  timezone: 'Europe/Berlin',
  recurrence: 'weekly',
  days: [1, 3],
  until: '2026-06-30T22:00:00.000Z',
  open: false,
  next_change_at: '2026-03-02T01:00:00.000Z',
};

describe('the form of a maintenance window', () => {
  it('shows the wall clock of its time zone, and becomes the window it was made of', () => {
    const form = windowForm(berlin);
    expect([form.startsAt, form.endsAt, form.until]).toEqual([
      '2026-03-02T02:00',
      '2026-03-02T04:30',
      '2026-07-01T00:00',
    ]);
    const { id, open, next_change_at } = berlin;
    expect({ id, open, next_change_at, ...windowBody(form) }).toEqual(berlin);
    expect(recurrenceText(berlin)).toBe('Mon, Wed 02:00 to 04:30 Europe/Berlin, until 2026-07-01');
  });

  it('takes out what a window without recurrence does not have', () => {
    const form = { ...windowForm(berlin), recurrence: 'none' as const };
    expect(windowBody(form)).toMatchObject({ recurrence: null, days: [], until: null });
  });

  it('starts with the next whole hour', () => {
    const form = emptyWindow(Date.parse('2026-03-02T01:10:00Z'), 'Europe/Berlin');
    expect([form.startsAt, form.endsAt]).toEqual(['2026-03-02T03:00', '2026-03-02T04:00']);
  });

  it('knows what is wrong before the hub is asked', () => {
    const form = windowForm(berlin);
    expect(windowFaults(form)).toEqual({});
    expect(Object.keys(windowFaults({ ...form, days: [] }))).toEqual(['days']);
    expect(Object.keys(windowFaults({ ...form, startsAt: '' }))).toEqual(['starts_at']);
    expect(Object.keys(windowFaults({ ...form, endsAt: form.startsAt }))).toEqual(['ends_at']);
    expect(Object.keys(windowFaults({ ...form, timezone: 'Mars/Base' }))).toEqual(['timezone']);
  });

  it('is listed by what happens next', () => {
    const over: MaintenanceWindow = { ...berlin, id: 'over' };
    delete over.next_change_at;
    const later = { ...berlin, id: 'later', next_change_at: '2026-03-09T01:00:00.000Z' };
    const open = { ...berlin, id: 'open', open: true };
    expect(sortWindows([over, later, berlin, open]).map((each) => each.id)).toEqual([
      'open',
      'mnt_1',
      'later',
      'over',
    ]);
  });
});

describe('faults of a body', () => {
  const refusal = (...errors: [string, string][]) =>
    new ApiError(
      422,
      'validation_failed',
      'The body is not good.',
      errors.map(([field, message]) => ({ field, code: 'invalid', message })),
    );

  it('are told at their fields', () => {
    const fields = ['config.url', 'config.headers', 'channel_ids', 'name'];
    const error = refusal(
      ['config.url', 'must be a URL'],
      ['config.headers.X-A', 'is set by the hub'],
      ['channel_ids[1]', 'name a channel'],
      ['channel_ids[2]', 'name a channel'],
      ['nameless', 'is odd'],
    );
    expect(faultsOf(error, fields)).toEqual({
      'config.url': 'must be a URL',
      'config.headers': 'X-A: is set by the hub',
      channel_ids: 'number 2: name a channel; number 3: name a channel',
      [WHOLE]: 'nameless: is odd',
    });
  });

  it('are told of the whole form when they name no field', () => {
    const limit = new ApiError(409, 'limit_reached', 'There are 100 channels already.');
    expect(faultsOf(limit, ['name'])).toEqual({ [WHOLE]: 'There are 100 channels already.' });
  });
});
