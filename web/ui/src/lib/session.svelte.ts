/** Who is signed in. */

import * as api from './api';
import type { Me } from './protocol';

export type SessionState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'unreachable'; readonly detail: string }
  | { readonly kind: 'signed_out' }
  | { readonly kind: 'signed_in'; readonly me: Me };

class Session {
  state: SessionState = $state.raw({ kind: 'loading' });
  /** Why signing out did not work; empty when it did. */
  trouble = $state('');

  async load(): Promise<void> {
    try {
      this.state = { kind: 'signed_in', me: await api.me() };
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      this.state =
        error.status === 401
          ? { kind: 'signed_out' }
          : { kind: 'unreachable', detail: error.message };
    }
  }

  async signIn(email: string, password: string): Promise<void> {
    this.state = { kind: 'signed_in', me: await api.login(email, password) };
  }

  async signOut(): Promise<void> {
    try {
      await api.logout();
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      // A session that has ended already needs no ending; any other refusal leaves the person signed in.
      if (error.status !== 401) {
        this.trouble = error.message;
        return;
      }
    }
    this.ended();
  }

  ended(): void {
    this.trouble = '';
    this.state = { kind: 'signed_out' };
  }
}

export const session = new Session();
