/** Light or dark: as the system says, until a person says otherwise on this machine. */

export type Theme = 'system' | 'light' | 'dark';

const KEY = 'pulse.theme';
const ORDER: readonly Theme[] = ['system', 'light', 'dark'];

class ThemeChoice {
  theme: Theme = $state(stored());

  /** Applies the choice to the document. */
  apply(): void {
    if (this.theme === 'system') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.theme;
  }

  next(): void {
    this.theme = ORDER[(ORDER.indexOf(this.theme) + 1) % ORDER.length] ?? 'system';
    try {
      localStorage.setItem(KEY, this.theme);
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    this.apply();
  }
}

function stored(): Theme {
  try {
    return ORDER.find((theme) => theme === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    return 'system';
  }
}

export const themeChoice = new ThemeChoice();
