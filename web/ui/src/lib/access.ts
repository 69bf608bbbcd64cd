/** What a role may do, so that nothing is offered that the hub would refuse. The hub decides. */

import type { Role } from './protocol';

/** Channels, rules, windows, deliveries, mails. */
export function mayManageChannels(role: Role | undefined): boolean {
  return role === 'owner' || role === 'admin';
}

/** Acknowledge an alert. */
export function mayAcknowledge(role: Role | undefined): boolean {
  return role !== undefined && role !== 'viewer';
}
