/** The page's addresses. The org is always in them; nothing is taken from a default org. */

const TABS = [
  'devices',
  'events',
  'alerts',
  'deliveries',
  'rules',
  'channels',
  'maintenance',
  'mail',
] as const;

export type Tab = (typeof TABS)[number];

export type Route =
  | { readonly page: 'home' }
  | { readonly page: 'login'; readonly next: string }
  | { readonly page: 'org'; readonly orgId: string; readonly tab: Tab }
  | { readonly page: 'missing' };

export function parseRoute(path: string, search: string): Route {
  const parts = path.split('/').filter(Boolean);
  if (parts.length === 0) {
    return { page: 'home' };
  }
  if (parts[0] === 'login' && parts.length === 1) {
    return { page: 'login', next: localPath(new URLSearchParams(search).get('next')) };
  }
  const [root, orgId, tab = 'devices', ...rest] = parts;
  const known = TABS.find((name) => name === tab);
  if (root === 'o' && orgId && known && rest.length === 0) {
    return { page: 'org', orgId, tab: known };
  }
  return { page: 'missing' };
}

/** Only a path of this origin may follow a sign-in. */
function localPath(next: string | null): string {
  return next !== null && /^\/(?![/\\])/.test(next) ? next : '/';
}

export function tabPath(orgId: string, tab: Tab): string {
  return tab === 'devices' ? `/o/${orgId}` : `/o/${orgId}/${tab}`;
}

class Router {
  route: Route = $state.raw(parseRoute(location.pathname, location.search));

  constructor() {
    window.addEventListener('popstate', () => this.read());
  }

  go(path: string, options: { replace?: boolean } = {}): void {
    if (options.replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
    this.read();
  }

  /** Sends a person to sign in and back here afterwards. */
  goToLogin(): void {
    const here = location.pathname + location.search;
    const next =
      here === '/' || here.startsWith('/login') ? '' : `?next=${encodeURIComponent(here)}`;
    this.go(`/login${next}`, { replace: true });
  }

  private read(): void {
    this.route = parseRoute(location.pathname, location.search);
  }
}

export const router = new Router();

/** For links inside the page: a plain click changes the route, anything else is the browser's. */
export function follow(event: MouseEvent): void {
  const link = (event.currentTarget as HTMLElement).closest('a');
  const modified = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
  if (!link || event.button !== 0 || modified) {
    return;
  }
  event.preventDefault();
  router.go(link.pathname + link.search);
}
