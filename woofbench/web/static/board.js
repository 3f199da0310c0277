/* Sort, filter, search, choice of columns, links to a view, copies, comparisons. Pages can be read without it.
   Text of a record gets into the page as textContent only. */
'use strict';
document.documentElement.classList.add('js');

const el = (tag, attrs = {}, ...kids) => {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) if (v !== null && v !== false) e.setAttribute(k, v === true ? '' : v);
  e.append(...kids.filter(o => o !== null));
  return e;
};
const load = (src, name = 'woofbenchCell') => new Promise((ok, no) => {
  const s = el('script', {src});
  s.onload = () => ok(window[name]);
  s.onerror = () => no(new Error(src));
  document.head.append(s);
});
/* as `probability`: a number below the one that a claim needs, `beat`, is never shown as if it reached it */
const prob = (p, beat) => p === null || p !== p ? '–' : p > .99 ? '> 0.99' : p < .01 ? '< 0.01'
  : p < beat && +p.toFixed(2) >= beat ? (Math.floor(1000 * p) / 1000).toFixed(3) : p.toFixed(2);
window.woofbenchProb = prob;

/* ---- the rows of a large cell that are on other pages: copies of the first row with other contents */
const makeRow = (model, o, data) => {
  const tr = model.cloneNode(true), td = [...tr.cells], n = data.n_val[o.images];
  const put = (i, text, v) => { td[i].textContent = text; td[i].dataset.v = v === null ? '' : v; };
  const [mean, half, p, time, params, macs, speed, noise] = o.texts;
  tr.dataset.id = o.id;
  tr.className = o.group ? `g${(o.group - 1) % 2} tied` : '';
  put(0, o.rank, parseInt(o.rank, 10) || '');
  td[1].replaceChildren(el('a', {href: `../rows/${o.id}.html`}, o.name));
  td[1].dataset.v = o.name.toLowerCase();
  const people = o.authors.split(' ').filter(Boolean).flatMap((a, i) => [i ? ', ' : '', el('a', {href: `https://github.com/${a}`}, a)]);
  if (o.authors || o.recipe) td[1].append(el('small', {}, ...people, people.length && o.recipe ? ' · ' : '', o.recipe ? el('span', {class: 'recipe'}, o.recipe) : ''));
  put(2, mean, o.mean);
  if (half !== null) td[2].append(el('small', {}, ` ± ${half}`));
  drawDots(td[3].querySelector('svg'), o, n, data.scale);
  put(4, o.n, o.n);
  put(5, p, o.p);
  put(6, time, o.time);
  put(7, params, o.params);
  put(8, macs, o.macs);
  put(9, speed, o.speed);
  put(10, data.devices[o.device], data.devices[o.device].toLowerCase());
  put(11, o.date, o.date);
  const word = o.state.split(/[: ]/)[0], why = o.state.slice(word.length).replace(/^[: ]+/, '');
  td[12].replaceChildren(el('span', {class: `tag ${word}`}, word), why ? el('span', {class: 'why'}, ` ${why}`) : '');
  td[12].dataset.v = o.state.toLowerCase();
  put(13, noise, o.network);
  td[14].replaceChildren(...[['record', `../${data.records}${o.id}.json`], ...o.links].flatMap(([s, to]) => [' ', el('a', {href: to}, s)]));
  return tr;
};
const drawDots = (svg, o, n, [a, z]) => {
  const f = v => (5 + 158 * (Math.min(Math.max(100 * v, a), z) - a) / (z - a)).toFixed(1);
  const made = c => { const p = document.createElementNS(svg.namespaceURI, 'path'); p.setAttribute('class', c); return svg.appendChild(p); };
  const set = (c, d) => (svg.querySelector(`.${c}`) || made(c)).setAttribute('d', d);
  const beside = 100 * Math.max(...o.correct) / n < a || 100 * Math.min(...o.correct) / n > z;
  if (beside) {
    svg.replaceChildren();
    set('beyond', 100 * o.mean < a ? 'M9 6l-5 5l5 5' : 'M159 6l5 5l-5 5');
    return;
  }
  svg.querySelector('.beyond')?.remove(); // the copied row lay beside the scale
  set('ci', o.half === null ? 'M0 0' : `M${f(o.mean - o.half)} 11H${f(o.mean + o.half)}`);
  set('seeds', o.correct.map(c => `M${f(c / n)} 11h0`).join(''));
  set('mean', `M${f(o.mean)} 4v14`);
};
const asObject = (data, row) => Object.fromEntries(data.keys.map((k, i) => [k, row[i]]));

/* ---- a table that can be sorted and filtered */
const STEP = 100;
class Board {
  constructor(table, linked) {
    this.table = table; this.body = table.tBodies[0]; this.linked = linked;
    this.heads = [...table.tHead.rows[0].cells];
    this.rows = [...this.body.rows]; this.first = this.rows.slice();
    this.more = table.dataset.more; this.total = +table.dataset.total || this.rows.length;
    this.from = +table.dataset.from || 0; this.size = this.more ? this.rows.length : Infinity; // of the plain page
    this.state = {sort: '', q: '', status: '', device: '', cols: ''};
    this.shown = this.size;
    this.tools(); this.buttons();
    if (linked) { this.read(); addEventListener('hashchange', () => this.read()); }
    else this.apply();
  }
  names() { return this.heads.map(h => (h.querySelector('abbr,button,.sr') || h).textContent.trim()); }
  tools() {
    const name = this.table.dataset.name || 'rows', id = this.table.id;
    this.search = el('input', {type: 'search', placeholder: `Search ${name}`, 'aria-label': `Search ${name}`});
    this.search.addEventListener('input', () => this.change({q: this.search.value}));
    this.count = el('span', {class: 'count', role: 'status'});
    const box = el('div', {class: 'tools', role: 'group', 'aria-label': `Tools for this table`}, this.search);
    this.selects = {};
    if (id === 'rows') {
      for (const k of ['status', 'device']) box.append(this.select(k));
      box.append(this.columns());
    }
    if (this.rows.length < 5 && id !== 'rows') this.search.hidden = true;
    this.reset = el('button', {type: 'button', class: 'act'}, 'Reset');
    this.reset.addEventListener('click', () => { for (const k in this.state) this.state[k] = ''; this.shown = this.size; this.apply(true); });
    box.append(this.reset, this.count);
    this.next = el('button', {type: 'button', class: 'act'}, '');
    this.next.addEventListener('click', async () => { if (await this.loaded()) { this.shown = this.body.rows.length + STEP; this.apply(); } });
    const frame = this.table.closest('.scroll');
    frame.before(box); frame.after(el('p', {}, this.next));
    this.pager = frame.parentElement.querySelector('.pager');
    this.down = frame.parentElement.querySelector('.downloads[data-view]');
    for (const a of this.down?.querySelectorAll('a[download]') || []) a.addEventListener('click', e => { if (this.part()) { e.preventDefault(); this.take(a.href.split('.').pop()); } });
  }
  spare(h) { return h.classList.contains('opt') && innerWidth < 1700; }
  column(k) { return this.names().findIndex(o => o.toLowerCase() === k); }
  select(k) {
    const s = el('select', {'aria-label': k[0].toUpperCase() + k.slice(1)}, el('option', {value: ''}, `Any ${k}`));
    this.selects[k] = s;
    s.addEventListener('change', () => this.change({[k]: s.value}));
    if (this.more) s.addEventListener('focus', async () => { if (await this.loaded()) this.options(); });
    return s;
  }
  value(tr, k) {
    const td = tr.cells[this.column(k)];
    return k === 'status' ? td.querySelector('.tag').textContent : td.textContent;
  }
  options() {
    for (const [k, s] of Object.entries(this.selects)) {
      const have = [...new Set(this.rows.map(tr => this.value(tr, k)))].sort();
      if (have.length + 1 !== s.options.length) s.replaceChildren(s.options[0], ...have.map(o => el('option', {value: o}, o)));
      s.value = this.state[k];
    }
  }
  columns() {
    const set = el('fieldset', {}, el('legend', {class: 'sr'}, 'Columns'));
    this.boxes = this.heads.map((h, i) => {
      if (i === 1) return null;
      const b = el('input', {type: 'checkbox'});
      b.checked = !this.spare(h);
      b.addEventListener('change', () => this.change({cols: this.boxes.map((o, j) => o && !o.checked ? j : -1).filter(j => j >= 0).join('.') || '-'}));
      set.append(el('label', {}, b, ` ${this.names()[i]}`));
      return b;
    });
    const d = el('details', {}, el('summary', {}, 'Columns'), set);
    d.addEventListener('keydown', e => { if (e.key === 'Escape') { d.open = false; d.querySelector('summary').focus(); } });
    document.addEventListener('click', e => { if (!d.contains(e.target)) d.open = false; });
    return d;
  }
  buttons() {
    this.heads.forEach((h, i) => {
      if (!h.dataset.sort) return;
      const b = el('button', {type: 'button'});
      b.append(...h.childNodes); h.append(b);
      b.addEventListener('click', () => {
        const [col, way] = this.state.sort.split('-'), down = h.dataset.sort === 'num' && i > 0;
        const next = +col === i && this.state.sort ? (way === 'down' ? 'up' : 'down') : down ? 'down' : 'up';
        this.change({sort: `${i}-${next}`});
      });
    });
  }
  async all() {
    if (!this.more || this.data) return;
    this.data = await load(this.more);
    const have = new Map(this.rows.map(tr => [tr.dataset.id, tr])), model = this.first.find(tr => tr.querySelector('.ci')) || this.first[0];
    this.rows = this.data.rows.map(r => { const o = asObject(this.data, r); return have.get(o.id) || makeRow(model, o, this.data); });
    this.first = this.rows.slice();
  }
  async loaded() {
    try { await this.all(); return true; } catch { this.count.textContent = 'The other rows could not be loaded.'; return false; }
  }
  change(o) { Object.assign(this.state, o); this.apply(true); }
  async apply(write) {
    const s = this.state;
    if (this.part() && !await this.loaded()) return;
    for (const k of ['status', 'device']) if (s[k] && !(this.selects[k] && this.rows.some(tr => this.value(tr, k) === s[k]))) s[k] = '';
    if (write && this.linked) this.write();
    this.options();
    if (this.search.value !== s.q) this.search.value = s.q;
    const words = s.q.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = this.sorted().filter(tr => {
      const text = words.length ? [...tr.cells].filter(td => !/num|pic|rank/.test(td.className)).map(td => td.textContent).join(' ').toLowerCase() : '';
      return words.every(w => text.includes(w) || w.length > 5 && tr.dataset.id?.startsWith(w)) && ['status', 'device'].every(k => !s[k] || this.value(tr, k) === s[k]);
    });
    this.hits = rows.map(tr => tr.dataset.id);
    const part = !this.data ? rows : this.part() ? rows.slice(0, Math.max(this.shown, STEP)) : rows.slice(this.from, this.from + this.shown);
    this.body.replaceChildren(...part);
    this.hideColumns();
    this.say(rows.length, part.length);
  }
  sorted() {
    const [col, way] = this.state.sort.split('-');
    this.heads.forEach((h, i) => h.dataset.sort && (this.state.sort && +col === i ? h.setAttribute('aria-sort', way === 'up' ? 'ascending' : 'descending') : h.removeAttribute('aria-sort')));
    if (!this.state.sort || !this.heads[+col]?.dataset.sort) return this.first;
    const numeric = this.heads[+col].dataset.sort === 'num', sign = way === 'up' ? 1 : -1;
    const key = tr => { const v = tr.cells[+col].dataset.v ?? tr.cells[+col].textContent; return numeric ? (v === '' ? NaN : +v) : v; };
    return this.first.map(tr => [key(tr), tr]).sort(([a], [b]) =>
      numeric ? (a !== a ? (b !== b ? 0 : 1) : b !== b ? -1 : sign * (a - b)) : sign * (a < b ? -1 : a > b ? 1 : 0)).map(o => o[1]);
  }
  hideColumns() {
    const chosen = this.state.cols, off = new Set(chosen.split('.').map(Number));
    this.heads.forEach((h, i) => {
      const hide = this.boxes ? (chosen ? chosen !== '-' && off.has(i) : this.spare(h)) && i !== 1 : false;
      if (this.boxes?.[i]) this.boxes[i].checked = !hide;
      h.classList.toggle('hide', hide);
      for (const tr of this.body.rows) tr.cells[i]?.classList.toggle('hide', hide);
    });
  }
  part() { return ['sort', 'q', 'status', 'device'].some(k => this.state[k]); }
  async take(kind) {
    const name = this.down.dataset.view;
    try { this.files ||= await load(name, 'woofbenchFiles'); } catch { this.count.textContent = 'The file of this view could not be loaded.'; return; }
    const f = this.files[kind];
    const text = f.head + this.hits.map(id => f.rows[id]).join(f.between) + f.tail;
    const href = URL.createObjectURL(new Blob([text], {type: 'text/plain;charset=utf-8'}));
    el('a', {href, download: name.replace('view.js', `view.${kind}`)}).click();
    setTimeout(() => URL.revokeObjectURL(href), 1e4);
  }
  say(hits, part) {
    const total = this.total, on = ['sort', 'q', 'status', 'device', 'cols'].some(k => this.state[k]);
    const all = !this.part(), page = this.more && all && this.shown === this.size;
    this.count.textContent = page ? `${part} of ${total} here` : part < hits ? `${part} of ${hits}` : `${hits} of ${total}`;
    this.reset.hidden = !on;
    if (this.down) this.down.firstElementChild.textContent = this.part() ? `Download this view (${hits} row${hits === 1 ? '' : 's'}): ` : 'Download: ';
    const left = all ? total - this.from - part : hits - part;
    this.next.hidden = left <= 0;
    this.next.textContent = `Show ${Math.min(STEP, left)} more`;
    if (this.pager) this.pager.hidden = !page;
  }
  write() {
    const p = new URLSearchParams(Object.entries(this.state).filter(([, v]) => v));
    const hash = p.toString();
    history.replaceState(null, '', location.pathname + (hash ? `#${hash}` : ''));
  }
  read() {
    const hash = location.hash.slice(1), text = hash.includes('=') ? hash : location.search.slice(1);
    if (hash && !text) { this.apply(); return; } // a place on the page
    const p = new URLSearchParams(text);
    for (const k in this.state) this.state[k] = p.get(k) || '';
    if (!/^\d{1,2}-(up|down)$/.test(this.state.sort)) this.state.sort = '';
    this.apply();
  }
}

/* ---- two rows, as woofbench compare does it: the most careful one of the tests */
const lgamma = x => {
  const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, .1208650973866179e-2, -.5395239384953e-5];
  let y = x, s = 1.000000000190015, t = x + 5.5;
  t -= (x + .5) * Math.log(t);
  for (const o of c) s += o / ++y;
  return -t + Math.log(2.5066282746310005 * s / x);
};
const fraction = (a, b, x) => {
  let c = 1, d = 1 - (a + b) * x / (a + 1), h;
  const tiny = v => Math.abs(v) < 1e-300 ? 1e-300 : v;
  d = h = 1 / tiny(d);
  for (let m = 1; m < 300; m++) {
    for (const q of [m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))]) {
      d = 1 / tiny(1 + q * d); c = tiny(1 + q / c); h *= d * c;
    }
    if (Math.abs(d * c - 1) < 1e-14) break;
  }
  return h;
};
const beta = (a, b, x) => {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const f = Math.exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * Math.log(x) + b * Math.log(1 - x));
  return x < (a + 1) / (a + b + 2) ? f * fraction(a, b, x) / a : 1 - f * fraction(b, a, 1 - x) / b;
};
const cdf = (df, t) => { const p = beta(df / 2, .5, df / (df + t * t)) / 2; return t < 0 ? p : 1 - p; };
const quantile = (df, p) => { let lo = 0, hi = 1e3; for (let i = 0; i < 80; i++) { const m = (lo + hi) / 2; if (cdf(df, m) < p) lo = m; else hi = m; } return lo; };
const moments = (o, n) => {
  const xs = o.correct.map(c => c / n), alike = xs.every(x => x === xs[0]), m = alike ? xs[0] : xs.reduce((a, b) => a + b) / xs.length;
  return {m, n: xs.length, v: xs.length > 1 ? xs.reduce((a, b) => a + (b - m) ** 2, 0) / (xs.length - 1) : NaN, image: o.image ?? 0, floored: o.floored};
};
const compare = (a, b, prior) => {
  const d = a.m - b.m;
  if (Math.min(a.n, b.n) < 2) return {diff: d, lo: NaN, hi: NaN, p: NaN};
  const test = (va, vb, df) => {
    const x = va / a.n, y = vb / b.n, u = va * (1 + 1 / a.n), w = vb * (1 + 1 / b.n), half = quantile(df(x, y), .975) * Math.sqrt(x + y);
    return {lo: d - half, hi: d + half, p: cdf(df(u, w), d / Math.sqrt(u + w))};
  };
  const welch = (x, y) => 1 / ((x / (x + y)) ** 2 / (a.n - 1) + (y / (x + y)) ** 2 / (b.n - 1));
  const tests = a.v + b.v > 0 ? [test(a.v, b.v, welch)] : [];
  const x = Math.max(a.v, a.image ** 2), y = Math.max(b.v, b.image ** 2);
  if (a.floored && x + y > 0) tests.push(test(x, y, welch));
  if (prior) {
    const df = a.n + b.n - 2 + prior[1], v = (prior[1] * prior[0] ** 2 + (a.n - 1) * a.v + (b.n - 1) * b.v) / df;
    tests.push(test(v, v, () => df));
  }
  if (!tests.length) return {diff: d, lo: NaN, hi: NaN, p: d ? NaN : .5};
  return {diff: d, lo: Math.min(...tests.map(o => o.lo)), hi: Math.max(...tests.map(o => o.hi)),
    p: a.v + b.v === 0 && d ? NaN : Math.min(...tests.map(o => o.p))}; // all seeds alike: they show no noise
};
window.woofbenchCompare = (a, b, prior, n) => compare(moments(a, n), moments(b, n), prior);

/* what the recipe of `me` has instead; a row says only what is not usual, and a new part says more than its parameters */
const changed = (me, o, usual) => {
  const mine = new Map(me.settings), theirs = new Map(o.settings);
  return [...new Set([...mine.keys(), ...theirs.keys()])].map(k => [k, theirs.get(k) ?? usual[k] ?? '–', mine.get(k) ?? usual[k] ?? '–'])
    .filter(([k, a, b]) => a !== b && b !== '–' && (a !== '–' || !me.own.includes(k))).map(([k, a, b]) => `${k} ${a} → ${b}`);
};
const picker = async box => {
  let data;
  try { data = await load(box.dataset.src); } catch { box.replaceChildren('The other rows could not be loaded.'); return; }
  const rows = data.rows.map(r => asObject(data, r)), me = rows.find(o => o.id === box.dataset.id);
  const others = rows.filter(o => o !== me);
  const label = o => `${o.texts[0]} %  ${o.name}  (${o.id.slice(0, 8)})`;
  const s = el('select', {id: 'other'}, el('option', {value: ''}, 'Choose a row'), ...others.map(o => el('option', {value: o.id}, label(o))));
  const out = el('div', {role: 'status'});
  s.addEventListener('change', () => {
    const o = rows.find(r => r.id === s.value);
    if (!o) { out.replaceChildren(); return; }
    const side = o => moments(o, data.n_val[o.images]);
    const c = compare(side(me), side(o), data.prior), f = v => `${v >= 0 ? '+' : ''}${(100 * v).toFixed(2)}`;
    const text = me.images !== o.images ? ': they were validated on other images, so nothing can be said.' : c.lo === c.lo && c.lo < c.hi ? `: ${f(c.diff)} points (95 % interval ${f(c.lo)} to ${f(c.hi)}), p_beat ${prob(c.p, data.beat)}.` : `: ${f(c.diff)} points; one seed, or seeds that all ended alike, show no noise.`;
    const diff = changed(me, o, data.usual);
    out.replaceChildren(el('p', {}, 'This row minus ', el('a', {href: `${o.id}.html`}, o.name), text),
      el('p', {}, diff.length ? 'What this row has instead:' : 'The recipes are the same.'), el('ul', {}, ...diff.map(d => el('li', {}, el('code', {}, d)))));
  });
  box.replaceChildren(el('p', {}, el('label', {for: 'other'}, 'This row minus another: '), s), out);
  s.focus();
};

/* ---- copies of code */
const takers = () => {
  for (const pre of document.querySelectorAll('pre.copy')) {
    const b = el('button', {type: 'button', class: 'act take'}, 'Copy');
    b.addEventListener('click', async () => {
      const text = pre.querySelector('code').textContent;
      try { await navigator.clipboard.writeText(text); b.textContent = 'Copied'; }
      catch { const r = document.createRange(); r.selectNodeContents(pre.querySelector('code')); getSelection().removeAllRanges(); getSelection().addRange(r); b.textContent = 'Selected'; }
      setTimeout(() => { b.textContent = 'Copy'; }, 1500);
    });
    pre.append(b);
  }
};

document.querySelectorAll('table.sortable').forEach((t, i) => new Board(t, i === 0));
takers();
const box = document.getElementById('pick');
if (box) {
  const b = el('button', {type: 'button', class: 'act'}, 'Compare with any other row of the cell');
  b.addEventListener('click', () => picker(box));
  box.append(b);
}
