import './app.css';

import { mount } from 'svelte';

import App from './App.svelte';
import { themeChoice } from './lib/theme.svelte';

const target = document.getElementById('app');
if (!target) {
  throw new Error('index.html has no #app');
}
themeChoice.apply();
mount(App, { target });
