/** From a rule's form to the body of a request and back. */

import type { Filters, Grouping, QuietHours, Rule } from '../protocol';
import { formatSeconds } from './schedule';
import { GROUPINGS, daysText } from './words';
import { ownZone } from './zone';

export interface RuleForm {
  name: string;
  description: string;
  eventTypes: string[];
  channelIds: string[];
  filters: Filters;
  cooldownS: number;
  minDurationS: number;
  grouping: Grouping;
  flapDetection: boolean;
  quiet: boolean;
  quietHours: QuietHours;
  escalates: boolean;
  escalateAfterS: number;
  escalateTo: string[];
  enabled: boolean;
}

/** A new rule, with what the hub takes where nothing is said. */
export function emptyRule(): RuleForm {
  return {
    name: '',
    description: '',
    eventTypes: ['agent.offline', 'device.offline'],
    channelIds: [],
    filters: {},
    cooldownS: 300,
    minDurationS: 0,
    grouping: 'agent',
    flapDetection: true,
    quiet: false,
    quietHours: { from: '22:00', to: '06:00', timezone: ownZone(), days: [] },
    escalates: false,
    escalateAfterS: 900,
    escalateTo: [],
    enabled: true,
  };
}

export function ruleForm(rule: Rule): RuleForm {
  const empty = emptyRule();
  return {
    name: rule.name,
    description: rule.description ?? '',
    eventTypes: rule.event_types,
    channelIds: rule.channel_ids,
    filters: rule.filters,
    cooldownS: rule.cooldown_s,
    minDurationS: rule.min_duration_s,
    grouping: rule.grouping,
    flapDetection: rule.flap_detection,
    quiet: rule.quiet_hours !== undefined,
    quietHours: { ...empty.quietHours, days: [], ...rule.quiet_hours },
    escalates: rule.escalation !== undefined,
    escalateAfterS: rule.escalation?.after_s ?? empty.escalateAfterS,
    escalateTo: rule.escalation?.channel_ids ?? [],
    enabled: rule.enabled,
  };
}

/** The whole rule. A `null` removes, in a change; a new rule has nothing to remove, and takes it for "none". */
export function ruleBody(form: RuleForm): Record<string, unknown> {
  return {
    name: form.name.trim(),
    description: form.description.trim() || null,
    event_types: form.eventTypes,
    channel_ids: form.channelIds,
    filters: withoutEmpty(form.filters),
    cooldown_s: form.cooldownS,
    min_duration_s: form.minDurationS,
    grouping: form.grouping,
    flap_detection: form.flapDetection,
    quiet_hours: form.quiet ? form.quietHours : null,
    escalation: form.escalates
      ? { after_s: form.escalateAfterS, channel_ids: form.escalateTo }
      : null,
    enabled: form.enabled,
  };
}

/** An empty list means "all", and is left out. */
export function withoutEmpty(filters: Filters): Filters {
  return Object.fromEntries(Object.entries(filters).filter(([, ids]) => ids.length > 0));
}

/** When and how a rule tells, in a sentence's parts. */
export function conditionsText(rule: Rule): string {
  const parts: string[] = [];
  if (rule.min_duration_s > 0) parts.push(`when wrong for ${formatSeconds(rule.min_duration_s)}`);
  if (rule.cooldown_s > 0) parts.push(`each at most once in ${formatSeconds(rule.cooldown_s)}`);
  const grouping = GROUPINGS.find(([word]) => word === rule.grouping)?.[1] ?? rule.grouping;
  parts.push(grouping.toLowerCase());
  if (rule.quiet_hours) {
    const { from, to, days = [] } = rule.quiet_hours;
    parts.push(`quiet ${from} to ${to} ${daysText(days)}`);
  }
  if (rule.escalation) parts.push(`escalates after ${formatSeconds(rule.escalation.after_s)}`);
  return parts.join(' · ');
}
