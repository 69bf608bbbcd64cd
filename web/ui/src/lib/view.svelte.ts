/** What of the devices is shown; kept in the address, so that a view can be shared. */

import type { DeviceStatus } from './protocol';
import type { SortBy, View } from './store/rows';

const SORTS: readonly SortBy[] = ['name', 'address', 'status', 'since', 'response'];
const STATUSES: readonly DeviceStatus[] = ['offline', 'degraded', 'unknown', 'online'];

export function parseView(search: string): View {
  const params = new URLSearchParams(search);
  const sort = params.get('sort') ?? '';
  const statuses = (params.get('status') ?? '').split(',');
  return {
    sort: SORTS.find((name) => name === sort.replace(/^-/, '')) ?? 'name',
    descending: sort.startsWith('-'),
    grouped: params.get('group') !== 'none',
    statuses: STATUSES.filter((status) => statuses.includes(status)),
    agentId: params.get('agent'),
    search: params.get('q') ?? '',
  };
}

export function viewQuery(view: View): string {
  const params = new URLSearchParams();
  const sort = (view.descending ? '-' : '') + view.sort;
  if (sort !== 'name') params.set('sort', sort);
  if (!view.grouped) params.set('group', 'none');
  if (view.statuses.length > 0) params.set('status', view.statuses.join(','));
  if (view.agentId) params.set('agent', view.agentId);
  if (view.search) params.set('q', view.search);
  const query = params.toString();
  return query === '' ? '' : `?${query}`;
}

export class ViewState {
  view: View = $state.raw(parseView(location.search));

  change(patch: Partial<View>): void {
    this.view = { ...this.view, ...patch };
    history.replaceState(null, '', location.pathname + viewQuery(this.view));
  }

  sortBy(sort: SortBy): void {
    const descending = this.view.sort === sort ? !this.view.descending : false;
    this.change({ sort, descending });
  }

  toggleStatus(status: DeviceStatus): void {
    const { statuses } = this.view;
    const next = statuses.includes(status)
      ? statuses.filter((other) => other !== status)
      : [...statuses, status];
    this.change({ statuses: next });
  }

  reset(): void {
    this.change({ statuses: [], agentId: null, search: '' });
  }
}
