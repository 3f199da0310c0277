"The web board: what its files say, and what a real browser makes of them"
import json, os, re, shutil, sys, time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import urlopen
import numpy as np
import pytest
from conftest import root
from pulls import N, Dogs, doctored, edition, machine
from woofbench.board.stats.claims import band, claim
from woofbench.board.stats.tests import summary
from woofbench.board.reported.history import of_board
from woofbench.board.row import Row
from woofbench.train.recipe import config_id, from_dict, recipes, to_dict
from msgspec.structs import force_setattr
from woofbench.board.record.git import git, repo_of
from woofbench.board.record.preds import encode_preds
from woofbench.board.record.record import Made, make_record
from woofbench.board.replications import replication
from woofbench.board.reviews import Review
from woofbench.board.record.seeds import official_seeds
from woofbench.data.track import make_track
from woofbench.commands.cli import make_parser
from woofbench.registry import BadInput
from woofbench.web import cells
from woofbench.web.cells import _lede, amount, more_command, numbers, prob
from woofbench.web.build import MARK, build, image_files, make_site, server, write
from woofbench.text import show
from woofbench.web.rows import _class_line, _in_turn, known_names
from woofbench.web.draw import pareto
from woofbench.web.effects import pairs_of
from woofbench.web.front import _effect_in, front_page, panels, points
from woofbench.web.markup import escape, h
from woofbench.web.money import bill, money_page, price_table
from woofbench.web.prices import Price
from woofbench.web.facts import against, from_rows, part_words, read_board, read_names, side

WOOF = 'n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641'.split()
CELL = 'imagewoof-128-s320-e5'
EVIL = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\'"&\u202e=cmd|'
ARGS = '--headless --no-sandbox --disable-gpu --disable-quic --disable-background-networking'.split()


@pytest.fixture(scope='module')
def pool():
    "Predictions of two hundred networks, encoded, with their counts"
    dogs,rng = Dogs(),np.random.default_rng(0)
    preds = [dogs.network(o).tolist() for o in np.sort(.6+.15*rng.random(200))]
    return [(o.count(0), encode_preds(o, [0]*N, 10)) for o in preds]

def make_row(i, pool, review=None, **more):
    "The row number `i` of an official cell"
    rng,track = np.random.default_rng(i),make_track('imagewoof')
    recipe = recipes('official')().but(arch=('xresnet18','xresnet50')[i//2%2], act=('relu','mish')[i%2],
                                       sa=(None,'simple_sa')[i//4%2],
                                       lr=.01 if i<8 else float(f'{.0015*1.003**i:.4g}'))
    def seed(s):
        k,text = pool[int(np.clip(rng.normal(60+30*(i%2)+40*(i//4%2), 12), 0, 199))]
        curve = [dict(train_loss=2.2-j/5, valid_loss=2.1-j/5, correct=k*(j+1)//5, train_s=9.+i%7, eval_s=1.)
                 for j in range(5)]
        return dict(seed=s, correct=k, diverged=False, curve=curve, preds=text, init_sha256=f'{s:016x}', peak_mem_mb=1,
                    device='abacus')
    code = dict(version='0.1.0', source_sha256='0'*16, commit=None, dirty=None)
    runs = [seed(s) for s in official_seeds(config_id(track, recipe))]
    env = machine | dict(device=('NVIDIA H100','Intel Xeon (2 threads)')[i%2])
    rec = make_record(track, recipe, edition | dict(classes=WOOF), runs, Made(code, env,
                      dict(params=11_200_000+i, macs=595_000_000*(1+i//2%2)), f'2026-11-{1+i%27:02}T00:00:00Z'))
    claim = dict(method=f'Trick no. {i}' if i%3 else '', authors='ada-l grace-h' if i%2 else 'ada-l')
    return Row(rec | dict(claim=claim) | more, review=review)

def forced(o, **kw):
    "Values that the types of a record would refuse"
    for k,v in kw.items(): force_setattr(o, k, v)

@pytest.fixture(scope='module')
def some(pool):
    """Eight rows, one of them with a stranger's text wherever a record has text, in a board of the real names and
    reported rows"""
    rows = [make_row(i, pool) for i in range(8)]
    rows[1] = make_row(1, pool, Review('', 'audited', EVIL, '2026-11-27'))
    rec = rows[1].record
    forced(rec, note=EVIL)
    forced(rec.claim, method=EVIL, authors=EVIL.replace(' ', ''))
    forced(rec.env, device=EVIL, platform=EVIL, versions={EVIL:EVIL})
    forced(rec.data, edition=EVIL)
    return from_rows(rows, [EVIL], repo_of(), names=read_names(root)[0], reported=of_board(root))

@pytest.fixture(scope='module')
def files(some): return build(some)

@pytest.fixture(scope='module')
def site(files, tmp_path_factory): return write(files, tmp_path_factory.mktemp('site')/'out')


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
    def handle_starttag(self, tag, attrs): self.tags.append((tag, dict(attrs)))
    handle_startendtag = handle_starttag

@pytest.fixture(scope='module')
def pages(files): return {k:Tags(v.decode()).tags for k,v in files.items() if k.endswith('.html')}


# What the files say

def test_a_trick_has_the_title_of_its_notebook(files):
    for o in (root/'nbs'/'tricks').glob('*.ipynb'):
        title = json.loads(o.read_text(encoding='utf-8'))['cells'][0]['source'][0].removeprefix('# ').strip()
        if o.stem=='00_index': continue
        assert f'<h1>{escape(title)}</h1>' in files[f'tricks/{o.stem}.html'].decode(), o.stem
        assert f'>{escape(title)}</a>' in files['tricks/index.html'].decode(), o.stem

def test_same_records_give_the_same_bytes(files, some, tmp_path):
    again = from_rows([e.row for e in some.entries], some.bad, repo_of(), names=some.names, reported=some.reported)
    assert build(again)==files
    board = read_board(root)
    one,two = (write(build(o), tmp_path/k) for k,o in (('a',board), ('b',read_board(root))))
    assert {o.relative_to(one):o.read_bytes() for o in one.rglob('*')
            if o.is_file()}=={o.relative_to(two):o.read_bytes() for o in two.rglob('*') if o.is_file()}

def test_pages_keep_the_policy(pages):
    want = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
            "connect-src 'self'; "
            "base-uri 'none'; form-action 'none'")
    for name,tags in pages.items():
        assert [a['content'] for t,a in tags if t=='meta' and a.get('http-equiv')]==[want], name
        assert not [(t,a) for t,a in tags if t=='style' or t=='script' and not a.get('src')
                    or any(k=='style' or k.startswith('on') for k in a)], name
        for t,a in tags:
            for k in ('src','href'):
                if k in a and t!='a': assert not re.match('[a-z]+:|//', a[k]), (name, t, a)

def test_hostile_text_stays_text(files):
    for name,raw in files.items():
        if not name.endswith(('.html','.xml','.svg')): continue
        text = raw.decode()
        assert '<img src=x' not in text and '<script>' not in text and '\u202e' not in text, name
    assert any(b'&lt;img src=x' in v for v in files.values())

def test_every_link_and_anchor_leads_somewhere(files, pages):
    ids = {k:{a['id'] for _,a in tags if 'id' in a} for k,tags in pages.items()}
    records = {e for e in files if e.startswith('records/')}
    for name,tags in pages.items():
        assert len([a['id'] for _,a in tags if 'id' in a])==len(ids[name]), f'{name} has an id twice'
        for t,a in tags:
            to = a.get('href') or a.get('src') or ''
            if not to or to.startswith('https:') or t=='use': continue
            path,_,anchor = to.partition('#')
            target = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            if target.startswith('records/') and not records: continue # these rows are in no folder
            assert target in files, (name, to)
            assert not anchor or anchor in ids[target], (name, to)

def test_the_command_for_more_seeds_exists(some):
    "The page of a cell says how to separate two rows, in a command that the command line takes"
    e = some.entries[0]
    args = make_parser().parse_strict(more_command(e, 7).split()[1:])
    assert (args.command, args.id, args.k)==('challenge', e.id, 7)

def test_a_row_can_be_run_again_on_colab(files, some):
    "The page has the link that opens its notebook, and the code of it, to paste into another one"
    e = some.entries[0]
    page,nb = files[f'rows/{e.id}.html'].decode(),json.loads(files[f'rows/{e.id}.ipynb'])
    code = [o['source'] for o in nb['cells'] if o['cell_type']=='code']
    assert len(code)==3 and escape('\n'.join(code)) in page
    to = f'https://colab.research.google.com/github/woofbench/woofbench/blob/notebooks/rows/{e.id}.ipynb'
    assert f'href="{to}"' in page
    assert f"reproduce('{e.id}'" in code[-1] and e.path in code[1] and e.path.endswith(f'{e.id}.json')

def test_the_notebook_of_a_row_runs_it_again(tmp_path, monkeypatch):
    "In an empty folder, with the record from the site; the line that installs the package is the README's"
    from execnb.shell import CaptureShell
    from fastcore.nbio import read_nb
    from woofbench import run
    row = run('digits', size=16, arch='xresnet10_tiny', epochs=1, seeds=2, device='cpu', out=tmp_path/'board', say=None)
    git(tmp_path/'board', 'init', '-q')
    git(tmp_path/'board', 'config', 'remote.origin.url', 'git@github.com:dogs/kennel.git')
    board = read_board(tmp_path/'board')
    assert board.url=='https://dogs.github.io/kennel/'
    site,empty = write(build(board), tmp_path/'site'),tmp_path/'empty'
    empty.mkdir()
    monkeypatch.chdir(empty)
    nb = read_nb(site/'rows'/f'{row.id}.ipynb')
    code = [o for o in nb.cells if o.cell_type=='code']
    code[1].source = code[1].source.replace(board.url, site.as_uri()+'/')
    assert code[0].source==f'%pip install -q git+{board.package}'
    CaptureShell().run_all(nb, exc_stop=True, preproc=lambda c: c is code[0] or c.cell_type!='code')
    assert 'identical' in json.dumps(code[-1].outputs), code[-1].outputs
    assert (empty/row.path.relative_to(tmp_path/'board')).read_bytes()==row.path.read_bytes()

def test_images_and_classes_need_their_list(pool, files, some):
    page = files[f'rows/{some.entries[0].id}.html'].decode()
    assert 'Rhodesian ridgeback' in page and 'ILSVRC2012_val_' in page
    bare = from_rows([e.row for e in some.entries])
    text = build(bare)[f'rows/{some.entries[0].id}.html'].decode()
    assert 'no list of the images' in text and 'Rhodesian' not in text
    e = some.entries[0]
    other = SimpleNamespace(track=make_track('imagenette'), row=e.row)
    names,why = known_names(other, some)
    assert names is None and 'no list of the images of imagenette (a file editions/imagenette.json)' in why

def test_a_list_of_names_with_another_hash_is_refused(tmp_path):
    good = json.loads((root/'woofbench'/'web'/'editions'/'digits.json').read_text())
    good['images']['0'] = good['images']['0'][:-1]+'9'
    (tmp_path/'editions').mkdir()
    (tmp_path/'editions'/'digits.json').write_text(json.dumps(good))
    names,bad = read_names(tmp_path)
    assert set(names)=={'imagewoof','digits'} and len(bad)==1 and 'not that of digits' in bad[0]

def test_ranks_and_ties_are_those_of_the_board(some):
    c = some.cells[0]
    for e in c.entries:
        if e is c.best: continue
        want = claim(e.acc, c.best.acc, band('imagewoof', 5))
        assert e.p_beat==pytest.approx(want['p_beat'], abs=1e-9) and e.diff_lo==pytest.approx(want['lo'], abs=1e-9)
    assert [e.rank for e in c.groups[0]]==[(1, len(c.groups[0]))]*len(c.groups[0])

@pytest.mark.parametrize('rules', [(3, 3), (3, 2), (2, 3)])
def test_the_board_uses_the_floor_of_a_rows_rules(pool, rules):
    "The pages say of a row what `Row.against` says of it, by the version of the rules that it was made for"
    rows = [make_row(i, pool, rules=o) for i,o in zip((0, 3), rules)]
    for o in rows: o.std,o.acc = .0005,[o.mean+d for d in (-.0005, -.0005, 0, .0005, .0005)] # they agree too well
    for a,b in (rows, rows[::-1]):
        for prior in (band('imagewoof', 5), None):
            floor = (a.image_noise, b.image_noise) if a.rules==3 else None
            got,want = against(side([a]), side([b]), prior),claim(a.acc, b.acc, prior, floor=floor)
            if prior: assert a.against(b)==want
            for k in ('diff','lo','hi','p_beat'): assert got[k][0]==pytest.approx(want[k], abs=1e-9), (k, prior)
            assert (want['by']=='images')==(a.rules==3 and prior is None and want['diff']>0)

@pytest.mark.parametrize('prior', [None, (.008, 9)])
def test_seeds_that_all_ended_alike_say_the_same_everywhere(prior):
    "Pages, `claim` and the check; where nothing is known of the noise, a page shows no interval"
    def row(acc): return SimpleNamespace(acc=acc, image_noise=0., floored=False, **summary(acc))
    rows = [row(o) for o in ([.5]*5, [.6]*5, [.1]*3, [.5, .5, .51], [.5])]
    for a in rows:
        got = against(side([a]), side(rows), prior)
        for i,b in enumerate(rows):
            want = claim(a.acc, b.acc, prior)
            known = want['lo']<want['hi']
            for k in ('diff','lo','hi','p_beat'):
                value = want[k] if known or k in ('diff','p_beat') else float('nan')
                assert got[k][i]==pytest.approx(value, abs=1e-12, nan_ok=True), (a, b, k)
    assert against(side(rows[:1]), side(rows[:1]), prior)['p_beat'][0]==.5

def test_rows_on_other_images_have_no_p_beat():
    cells = [c for c in read_board(root).cells if len({e.row.data['manifest_sha256'] for e in c.entries})>1]
    assert cells
    for c in cells:
        for e in c.entries:
            alike = e is not c.best and e.row.data['manifest_sha256']==c.best.row.data['manifest_sha256']
            assert (e.p_beat is not None)==alike

def test_replications_are_shown(pool):
    a,b = make_row(0, pool),make_row(0, pool, created='2026-11-28T00:00:00Z')
    b.record |= dict(based_on=a.id)
    b.based_on = a.id
    board = from_rows([a, Row(b.record | dict(record_id='f'*16))])
    text = build(board)[f'rows/{a.id}.html'].decode()
    assert 'Replication ffffffffffffffff' in text and replication(a, b).word in text

def test_a_folder_with_other_files_is_left_alone(tmp_path, refused):
    (tmp_path/'thesis.tex').write_text('years of work')
    assert 'has other files' in refused(f'site --out {tmp_path} --board {root}')
    assert [o.name for o in tmp_path.iterdir()]==['thesis.tex']

def test_command(tmp_path, cli):
    rc,out,_ = cli(f'site --out {tmp_path}/out --board {root}')
    assert rc==0 and 'index.html' in out and (tmp_path/'out'/MARK).is_file()
    (tmp_path/'out'/'rows'/'old.html').write_text('gone')
    make_site(tmp_path/'out', root)
    assert not (tmp_path/'out'/'rows'/'old.html').exists()
    record = next((root/'records').rglob('*-e*/*.json'))
    assert (tmp_path/'out'/record.relative_to(root)).read_bytes()==record.read_bytes()

def test_the_pages_of_the_project_have_a_help():
    from subprocess import run
    def said(*words):
        return run([sys.executable, '-m', 'woofbench.site', *words], cwd=root, capture_output=True, text=True)
    o = said('--help')
    assert o.returncode==0 and 'documentation in _site/docs' in ' '.join(o.stdout.split())
    o = said()
    assert o.returncode==2 and 'required: task' in o.stderr and 'Traceback' not in o.stderr

def test_server_is_for_this_machine_alone(site):
    with server(site, 0) as s: assert s.server_address[0]=='127.0.0.1'


def get(s, path):
    "(status, content type, content) from a server"
    try:
        with urlopen(f'http://127.0.0.1:{s.server_port}/{path}') as o:
            return o.status, o.headers['Content-Type'], o.read()
    except HTTPError as e: return e.code, None, b''

def test_pictures_come_from_a_local_folder(site, files, some, tmp_path):
    "Only a server that was given a folder shows them; the files of the site stay as they are"
    e = some.entries[0]
    page = files[f'rows/{e.id}.html'].decode()
    first,second = re.findall(r'<li data-image="(\w+/\w+)">', page)[:2]
    (tmp_path/'data'/'val'/first).parent.mkdir(parents=True)
    (tmp_path/'data'/'val'/f'{first}.JPEG').write_bytes(b'a picture')
    (tmp_path/'data'/'secret.png').write_bytes(b'not a validation image')
    with server(site, 0, image_files(tmp_path/'data')) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        text = get(s, f'rows/{e.id}.html')[2].decode()
        assert f'<img src="../images/{first}"' in text and f'images/{second}' not in text
        assert re.sub('<img src="../images/[^>]*>', '', text)==page
        assert get(s, f'images/{first}')==(200, 'image/jpeg', b'a picture')
        for o in (second, first.split('/')[1], 'secret', '..%2fsecret', f'..%2fval%2f{first}', ''):
            assert get(s, f'images/{o}')[0]==404, o
        assert get(s, 'index.html')[2]==files['index.html'] and get(s, 'rows/none.html')[0]==404
        s.shutdown()
    with server(site, 0) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        assert get(s, f'rows/{e.id}.html')[2].decode()==page and get(s, f'images/{first}')[0]==404
        s.shutdown()

def test_pictures_of_two_classes_may_have_one_name(tmp_path):
    "Also names with other letters than a to z, and files that are not JPEG"
    names = 'pug/001.jpg', 'mops/001.jpg', 'mops/Köln 2.webp', 'pug/a+b&c.PNG'
    for o in names:
        (tmp_path/'val'/o).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'val'/o).write_bytes(o.encode())
    (tmp_path/'val'/'pug'/'notes.txt').write_text('no picture')
    images = image_files(tmp_path)
    keys = [o.rpartition('.')[0] for o in names]
    assert {k:v.read_bytes().decode() for k,v in images.items()}==dict(zip(keys, names))
    page = ''.join(str(h('li', h('code', 'x'), data_image=o)) for o in [*keys, 'pug/002'])
    (tmp_path/'site'/'rows').mkdir(parents=True)
    (tmp_path/'site'/'rows'/'a.html').write_text(page, encoding='utf-8')
    with server(tmp_path/'site', 0, images) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        text = get(s, 'rows/a.html')[2].decode()
        found = re.findall(r'<li data-image="([^"]*)"><img src="[.][.]/([^"]*)"', text)
        assert [unescape(o) for o,_ in found]==keys
        assert [get(s, unescape(o))[2].decode() for _,o in found]==list(names)
        for o in ('rows/..%2f..%2fval%2fpug%2f001.jpg', 'rows/%2e%2e/index.html'): assert get(s, o)[0]==404, o
        s.shutdown()

def test_a_folder_without_pictures_is_refused(tmp_path, refused):
    with pytest.raises(BadInput, match='val/CLASS/IMAGE'): image_files(tmp_path)
    assert 'give --serve too' in refused(f'site --out {tmp_path}/out --board {root} --images {tmp_path}')

def test_wrong_images_take_turns_by_class(some):
    "Images that are equally hard come one of each class, so that the first class does not fill the list"
    e = some.entries[0]
    names,_ = known_names(e, some)
    labels = np.array(names.labels)
    images = _in_turn(np.arange(len(labels)), np.zeros(len(labels), int), names)
    assert sorted(images)==list(range(len(labels))) and labels[images[:10]].tolist()==list(range(10))
    assert labels[images[10:20]].tolist()==list(range(10))
    harder = _in_turn(np.array([0, 1, 2]), np.array([2, 0, 1]+[9]*len(labels)), names)
    assert harder==[1, 2, 0]

@pytest.mark.parametrize('p,text', [(None, '–'), (.79978, '0.799'), (.8, '0.80'), (.995, '> 0.99'), (.004, '< 0.01')])
def test_a_page_shows_a_probability_as_the_check_does(p, text): assert prob(p)==text

def test_the_front_page_says_what_the_audit_found(files, some):
    "Findings are those of the audit; a row that was replaced has no finding for that"
    rows = some.reported
    def n(*states, odd=False): return sum(o.state in states and (not odd or bool(o.findings)) for o in rows)
    odd = n('page', 'replaced', 'unmerged', 'elsewhere', odd=True)
    assert odd<n('page', 'replaced')
    text = (f'{len(rows)} reported rows: {n("page")} on the page of the public board today, {n("replaced")} that it '
            f'had before, and {n("unmerged", "elsewhere")} that never were on it. The audit has a finding on {odd} of '
            f'them, {n("page", odd=True)} of these on the page today.')
    for k in ('index.html', 'reported.html'): assert text in files[k].decode(), k

def test_every_row_is_in_the_picture_of_costs():
    "Also where more of them than get a link are on the line of the best"
    for n in (5, 12, 20):
        pic = pareto([(10.**(1+i/9), 50+i, f'row {i}', str(i)) for i in range(n)], '', '', '', lambda o: o)
        assert pic.count('h0')+pic.count('<circle')==n and pic.count('<a ')==min(n, 12)

def test_a_panel_counts_all_rows_and_follows_the_best_of_each_day(pool):
    "Only 40 rows and those that led once have a mark"
    rows = [make_row(i, pool) for i in range(60)]
    first = min(range(60), key=lambda i: rows[i].mean)
    rows[first] = make_row(first, pool, created='2026-10-01T00:00:00Z') # the worst one was the first
    board,track = from_rows(rows),rows[0].track
    found = points(board, track)
    best = sorted((e for e in board.entries), key=lambda e: (e.date, -e.mean))
    led = [e for i,e in enumerate(best) if all(e.mean>o.mean for o in best[:i])]
    shown = [o for o in found if not o['hide']]
    assert len(found)==60 and {e.date for e in led}<={o['day'] for o in shown}
    assert 40<=len(shown)<=40+len(led) and any(e not in board.cells[0].ranked[:40] for e in led)
    text = str(panels(board, [track]))
    assert '60 measured and 0 reported rows' in text and f'{len(shown)} of 60 measured rows have a mark' in text
    assert text.count('<circle')==len(shown)

def test_a_trick_says_how_many_pairs_are_left_out(some):
    p = next(o for o in pairs_of(some) if o.field=='act')
    assert 'and 20 more pairs' in str(_effect_in('act', [p]*60)) and 'more pair' not in str(_effect_in('act', [p]*40))
    assert 'and 1 more pair<' in str(_effect_in('act', [p]*41))

def test_a_class_that_is_always_mistaken_has_a_colour():
    line = str(_class_line(0, ('pug','beagle'), np.array([0., 100.])))
    assert 'class="q9"' in line and 'q10' not in line

def test_a_cell_without_a_row_that_counts_is_on_the_front_page(pool):
    def one(size):
        rec = doctored(make_row(0, pool).record, lambda r: r['track'].update(size=size), own=True)
        return Row(rec, review=Review('', 'disputed', 'no', '2026-11-28'))
    for size in (160, 128):
        board = from_rows([one(size)])
        assert board.cells[0].best is None and board.cells[0].track.official==(size==128)
        text = front_page(board, []).decode()
        assert f'cells/{board.cells[0].slug}.html' in text and text.count('no row in the ranking')==1

@pytest.mark.parametrize('word,name,fits', [
    ('A100', 'NVIDIA A100-SXM4-80GB', True), ('A100', 'NVIDIA RTX A1000', False), ('T4', 'Tesla T4', True),
    ('T4', 'NVIDIA T400 4GB', False), ('T4', 'NVIDIA T4G', False), ('H200', 'NVIDIA GH200 480GB', False),
    ('h200', 'NVIDIA H200', True), ('threads)', 'Intel Xeon (2 threads)', True)])
def test_a_price_is_for_whole_words_of_a_name(word, name, fits):
    assert Price(word, 1., 'device', '', '').fits(name)==fits

def test_a_small_price_is_not_nothing():
    text = str(price_table([Price('a', .0001, 'thread', '', ''), Price('b', 2., 'device', '', '')]))
    assert '$0.00010 a thread' in text and '$2.00 a device' in text

def test_a_cell_leads_to_its_reported_rows(files):
    page = files[f'cells/{CELL}.html'].decode()
    assert 'Reported, never run again here' in page and '../reported.html#part-imagewoof' in page and '76.61 %' in page

def test_a_bill_is_time_and_price(some):
    "Hours of all seeds times dollars an hour; seeds that share the machine count once"
    prices = [Price('H100', 3.6, 'device', '', ''), Price('threads)', .36, 'thread', '', '')]
    found = [(o, bill(o, prices)) for o in some.entries]
    assert {o.device for o,x in found if x}=={'NVIDIA H100','Intel Xeon (2 threads)'}
    for o,x in found:
        if not x: continue
        hours = sum(e['train_s']+e['eval_s'] for r in o.row.runs for e in r['curve'])/3600
        env = o.record['env']
        k = min(env['seeds_at_once'], o.n)
        hour = 3.6 if 'H100' in o.device else .36*min(env['threads']*k, max(env['cores'], env['threads']))
        assert x.row==pytest.approx(hours*hour/o.n*-(-o.n//k))
        assert x.seed==pytest.approx(x.row/o.n)

def test_rows_without_a_price_are_named(some):
    "A device without a price has no bill, and the page says so"
    text = money_page(replace(some, prices=[Price('H100', 3.6, 'device', '', '')])).decode()
    assert 'Intel Xeon (2 threads)' in text[text.index('No price is stated for: '):]
    assert {o.id for o in some.entries if o.id in text}=={o.id for o in some.entries if o.counts and 'H100' in o.device}

@pytest.mark.parametrize('n,ranked,text', [(1, 1, '1 row, in the ranking.'), (1, 0, '1 row, not in the ranking.'),
                                           (4, 2, '4 rows, 2 of them in the ranking.')])
def test_a_cell_says_how_many_rows_are_in_the_ranking(n, ranked, text):
    c = SimpleNamespace(entries=[0]*n, ranked=[0]*ranked, track=make_track('imagewoof'))
    assert text in _lede(c)

def test_parts_of_the_reported_rows_have_names():
    assert [part_words(o) for o in ('imagewoof', 'imagenette-5-changed', 'imagenette-50-changed-earlier')]==[
            'imagewoof', 'imagenette with 5 % of the labels changed',
            'imagenette with 50 % of the labels changed, earlier']

@pytest.mark.parametrize('v,text', [(0, '0'), (999, '999'), (1_481_984, '1.48 M'), (310_370, '310 k'),
                                    (999_600, '1 M'), (1_190_000_000, '1.19 G')])
def test_large_numbers_have_three_digits(v, text): assert amount(v)==text


# Many rows in one cell

@pytest.fixture(scope='module', params=(200, pytest.param(1000, marks=pytest.mark.slow)))
def many(request, pool, tmp_path_factory):
    rows = [make_row(i, pool) for i in range(request.param)]
    board = from_rows(rows, names=read_names(root)[0], reported=of_board(root))
    start = time.process_time()
    made = build(board)
    out = write(made, tmp_path_factory.mktemp('large')/'out')
    return request.param, made, out, time.process_time()-start

def test_many_rows_are_light(many):
    n,made,_,seconds = many
    shared = sum(len(v) for k,v in made.items() if k.startswith('static/'))
    first = shared+len(made['index.html'])+len(made[f'cells/{CELL}.html'])
    assert first<300_000, first
    assert sum(k.startswith('rows/') and k.endswith('.html') for k in made)==n
    shown = [m for k,v in made.items() if re.fullmatch(rf'cells/{CELL}(-p\d+)?\.html', k)
             for m in re.findall(r'data-id="(\w+)"', v.decode())]
    assert len(shown)==len(set(shown))==n # every row is on one of the plain pages
    print(f'{seconds:.1f} s of processor time, {first/1000:.0f} kB')
    assert seconds<10 # 5 s is the goal; a machine may be slow


# In a browser

def lacking():
    "What a browser test needs and is not here"
    try: import playwright.sync_api  # noqa: F401
    except ImportError: return 'playwright is not installed'
    if not chromium() and not os.environ.get('WOOFBENCH_BROWSER'): return 'there is no Chromium'

def chromium(): return next((o for o in map(shutil.which, ('chromium','chromium-browser','google-chrome')) if o), None)

def axe():
    "The path of axe-core's script: from $WOOFBENCH_AXE, from npm, or from axe-playwright-python"
    spec = find_spec('axe_playwright_python')
    found = [os.environ.get('WOOFBENCH_AXE'), root/'node_modules'/'axe-core'/'axe.min.js',
             spec and Path(spec.origin).parent/'axe.min.js']
    return next((o for o in map(Path, filter(None, found)) if o.is_file()), None)

def need(why):
    if why: (pytest.fail if os.environ.get('WOOFBENCH_BROWSER') else pytest.skip)(f'browser tests: {why}')

@pytest.fixture(scope='module')
def browser():
    need(lacking())
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium(), args=ARGS)
        yield b
        b.close()

@pytest.fixture
def tab(browser):
    "Open a page and watch it: `tab(folder, page)`; errors and requests that leave it fail the test"
    seen,contexts = [],[]
    def _f(folder, page, served=False, **kw):
        c = browser.new_context(**{'viewport':dict(width=1280, height=900)} | kw)
        contexts.append(c)
        pg = c.new_page()
        pg.on('console', lambda m: seen.append(f'{page}: console {m.type}: {m.text}') if m.type in ('error','warning')
              else None)
        pg.on('pageerror', lambda e: seen.append(f'{page}: {e}'))
        base = served or Path(folder).as_uri()
        pg.on('request', lambda r: seen.append(f'{page}: asks {r.url}') if not r.url.startswith(base)
              and not r.url.startswith('data:') else None)
        pg.goto(f'{base}/{page}')
        pg.wait_for_load_state('load')
        return pg
    yield _f
    for c in contexts: c.close()
    assert not seen

def has(pg, n):
    "Wait until the table shows `n` rows"
    from playwright.sync_api import expect
    expect(pg.locator('#rows tbody tr')).to_have_count(n)

def column(pg, i): return [o.strip() for o in pg.locator(f'#rows tbody tr > :nth-child({i})').all_inner_texts()]

KINDS = ('index.html', f'cells/{CELL}.html', 'cells/index.html', 'ROW', 'tricks/index.html', 'tricks/simple_sa.html',
         'reported.html', 'legend.html', 'addresses.html', f'embed/{CELL}.html')

def kinds(board): return [o.replace('ROW', f'rows/{board.cells[0].best.id}.html') for o in KINDS]

def test_every_kind_of_page_loads_in_silence(site, some, tab):
    with server(site, 0) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        for page in kinds(some):
            for served in (False, f'http://127.0.0.1:{s.server_port}'):
                pg = tab(site, page, served)
                assert pg.locator('h1').count()==1 and not pg.evaluate('window.hit')
                pg.close() # before the server: a request for the icon may still be on its way
        s.shutdown()

def test_nothing_is_wider_than_a_phone(site, some, tab):
    for page in kinds(some):
        pg = tab(site, page, viewport=dict(width=360, height=740))
        assert pg.evaluate('document.documentElement.scrollWidth')<=360, page

def test_hostile_row_shows_its_text(site, some, tab):
    e = next(o for o in some.entries if o.method==EVIL)
    pg = tab(site, f'rows/{e.id}.html')
    assert '<img src=x onerror=' in pg.locator('h1').inner_text() and not pg.evaluate('window.hit')
    pg = tab(site, f'cells/{CELL}.html')
    assert pg.get_by_text('<img src=x onerror=').count() and not pg.evaluate('window.hit')

def test_sort_filter_and_link(site, some, tab):
    pg = tab(site, f'cells/{CELL}.html')
    accs = [float(o.split()[0]) for o in column(pg, 3)]
    button = pg.get_by_role('button', name='Accuracy, %')
    button.click()
    button.click()
    assert [float(o.split()[0]) for o in column(pg, 3)]==sorted(accs)
    assert pg.locator('th[aria-sort=ascending]').count()==1
    pg.get_by_role('searchbox').fill('trick no. 7')
    has(pg, 1)
    assert 'Trick no. 7' in column(pg, 2)[0] and '1 of ' in pg.get_by_role('status').first.inner_text()
    pg.locator('.tools summary').click()
    pg.get_by_label('MACs').uncheck()
    address = pg.url
    assert 'q=trick' in address and 'sort=2-up' in address and 'cols=' in address
    again = tab(site, address.split('/out/')[1])
    has(again, 1)
    assert 'Trick no. 7' in column(again, 2)[0] and not again.get_by_role('button', name='MACs').is_visible()
    again.get_by_role('button', name='Reset').click()
    assert len(column(again, 2))==8 and '#' not in again.url

def test_filter_by_status_and_device(site, some, tab):
    pg = tab(site, f'cells/{CELL}.html')
    pg.get_by_role('combobox', name='Device').select_option('NVIDIA H100')
    has(pg, 4)
    assert len(column(pg, 2))==4

def test_many_rows_in_the_browser(many, tab):
    n,made,out,_ = many
    name = f'Trick no. {n-2 if (n-2)%3 else n-3}'
    pg = tab(out, f'cells/{CELL}.html')
    assert len(column(pg, 2))==40 and not pg.evaluate('window.woofbenchCell')
    pg.get_by_role('button', name='Time').click()
    has(pg, 100)
    want = next(k for k,v in made.items() if k.startswith('rows/') and k.endswith('.html')
                and f'<h1>{name}<'.encode() in v)[5:21]
    pg.get_by_role('searchbox').fill(want)
    has(pg, 1)
    html = pg.locator('#rows tbody tr').inner_html()
    assert name in html
    for page in ('', *(f'-p{i}' for i in range(2, n//40+1))): # the same row as the plain page has it
        plain = tab(out, f'cells/{CELL}{page}.html', java_script_enabled=False)
        hit = plain.locator('#rows tbody tr', has_text=name)
        if hit.count(): break
    def words(t): return re.sub(r'\s+', ' ', t.text_content()).strip()
    assert words(hit.first)==words(pg.locator('#rows tbody tr').first)

def test_the_browser_compares_as_the_board_does(site, some, tab):
    c = some.cells[0]
    pg = tab(site, f'rows/{c.best.id}.html')
    pg.get_by_role('button', name='Compare with any other row').click()
    pg.wait_for_selector('#other')
    for e in c.entries[1:4]:
        a,b = (dict(correct=[r['correct'] for r in o.row.runs]) for o in (c.best, e))
        got = pg.evaluate('([a,b,p,n]) => woofbenchCompare(a,b,p,n)', [a, b, c.prior, N])
        want = claim(c.best.acc, e.acc, c.prior)
        def same(got, want):
            return all(got[k]==pytest.approx(want[w], abs=1e-7)
                       for k,w in (('diff','diff'), ('lo','lo'), ('hi','hi'), ('p','p_beat')))
        assert same(got, want)
        a |= dict(floored=1, image=.02) # a floor that is above the spread
        got = pg.evaluate('([a,b,p,n]) => woofbenchCompare(a,b,p,n)', [a, b | dict(image=.03), None, N])
        assert same(got, claim(c.best.acc, e.acc, floor=(.02, .03))) and not same(got, claim(c.best.acc, e.acc))
        pg.select_option('#other', e.id)
        said = pg.locator('#pick [role=status]').inner_text()
        assert f'{100*want["diff"]:+.2f} points' in said
        assert {o for o in said.splitlines() if '→' in o}=={f'{k} {show(e.fields[k])} → {show(v)}'
                                                           for k,v in c.best.fields.items() if e.fields[k]!=v}

def test_without_javascript_everything_is_there(site, some, tab):
    for page in kinds(some):
        pg = tab(site, page, java_script_enabled=False)
        assert pg.locator('main').inner_text().strip()
    pg = tab(site, f'cells/{CELL}.html', java_script_enabled=False)
    assert len(column(pg, 2))==8 and pg.locator('.dots').count()==8 and pg.get_by_text('Device',
            exact=True).is_visible()

def test_keyboard_alone(site, some, tab):
    pg = tab(site, f'cells/{CELL}.html')
    pg.keyboard.press('Tab')
    assert pg.evaluate('document.activeElement.textContent')=='Skip to the content'
    assert pg.evaluate('document.activeElement.getBoundingClientRect().left')>=0
    pg.keyboard.press('Enter')
    focus = []
    for _ in range(14):
        pg.keyboard.press('Tab')
        focus.append(pg.evaluate('document.activeElement.textContent.trim()'))
        if focus[-1]=='Accuracy, %': break
    assert focus[-1]=='Accuracy, %', focus
    assert pg.evaluate('getComputedStyle(document.activeElement).outlineStyle')=='solid'
    pg.keyboard.press('Enter')
    assert pg.locator('th[aria-sort]').count()==1

READ = """tr => [tr.dataset.id, tr.className.trim(), ...[...tr.cells].map(td => [
    td.textContent.replace(/\\s+/g, ' ').trim(),
    td.dataset.v === undefined ? null : isNaN(td.dataset.v) || !td.dataset.v ? td.dataset.v : +td.dataset.v,
    ...[...td.querySelectorAll('a,.recipe')].map(o => o.getAttribute('href') ?? o.className)])]"""

@pytest.fixture(scope='module')
def long(pool, tmp_path_factory):
    "130 rows in one cell, 10 on each plain page"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(cells, 'STEP', 10)
        board = from_rows([make_row(i, pool) for i in range(130)])
        made = build(board)
    return board, made, write(made, tmp_path_factory.mktemp('long')/'out')

def plain_pages(made):
    found = {k:v.decode() for k,v in made.items() if re.fullmatch(rf'cells/{CELL}(-p\d+)?\.html', k)}
    return [found[k] for k in sorted(found, key=lambda k: int((re.search(r'-p(\d+)', k) or ['', 1])[1]))]

def test_rows_that_the_script_makes_are_those_of_the_plain_pages(long, tab):
    "All of them: texts, links, and what they are sorted by"
    board,made,out = long
    pg = tab(out, f'cells/{CELL}.html')
    want = pg.evaluate(f"""texts => texts.flatMap(o => [...new DOMParser().parseFromString(o, 'text/html')
        .querySelectorAll('#rows tbody tr')]).map({READ})""", plain_pages(made))
    pg.get_by_role('button', name='Show 100 more').click()
    has(pg, 110)
    pg.get_by_role('button', name='Show 20 more').click()
    has(pg, 130)
    got = pg.locator('#rows tbody tr').evaluate_all(f'rows => rows.map({READ})')
    assert [o[0] for o in want]==[e.id for e in board.cells[0].entries]
    for a,b in zip(want, got): assert a==b
    data = {o[1]:o for o in pg.evaluate('woofbenchCell.rows')}
    assert all(data[e.id][-4]==list(numbers(e).values()) for e in board.cells[0].entries)
    for p in (None, .79978, .8, .8049, .995, .004, .5):
        assert pg.evaluate('([p,b]) => woofbenchProb(p,b)', [p, .8])==prob(p)

def test_more_rows_begin_where_the_page_ends(long, tab):
    board,_,out = long
    ids = [e.id for e in board.cells[0].entries]
    def shown(pg): return pg.locator('#rows tbody tr').evaluate_all('rows => rows.map(o => o.dataset.id)')
    pg = tab(out, f'cells/{CELL}-p3.html')
    assert shown(pg)==ids[20:30] and pg.locator('.count').first.inner_text()=='10 of 130 here'
    pg.get_by_role('button', name='Show 100 more').click()
    has(pg, 110)
    assert shown(pg)==ids[20:] and not pg.get_by_role('button', name='more').is_visible()
    pg.get_by_role('button', name='Rank').click()
    pg.get_by_role('searchbox').fill(ids[50])
    has(pg, 1)
    pg.get_by_role('button', name='Reset').click()
    has(pg, 10)
    assert shown(pg)==ids[20:30] and pg.locator('.pager').is_visible()
    last = tab(out, f'cells/{CELL}-p13.html')
    assert shown(last)==ids[120:] and not last.get_by_role('button', name='more').is_visible()

def test_a_search_in_the_address_is_found_and_left(long, tab):
    board,_,out = long
    e = board.cells[0].entries[77]
    pg = tab(out, f'cells/{CELL}.html?q={e.id}#ties')
    has(pg, 1)
    assert e.name in column(pg, 2)[0] and pg.get_by_role('searchbox').input_value()==e.id
    pg.get_by_role('button', name='Reset').click()
    has(pg, 10)
    assert '?' not in pg.url and 'q=' not in pg.url
    for odd in ('#status=foo', '#device=foo'):
        pg = tab(out, f'cells/{CELL}.html{odd}')
        has(pg, 10)
        assert pg.get_by_role('combobox', name='Status').input_value()==''
    assert tab(out, 'cells/index.html#status=foo').locator('#cells tbody tr').count()==1

def test_rows_without_a_rank_come_last(pool, tab, tmp_path):
    rows = [make_row(i, pool, Review('', 'disputed', 'no', '2026-11-28') if i<2 else None) for i in range(6)]
    pg = tab(write(build(from_rows(rows)), tmp_path/'out'), f'cells/{CELL}.html')
    for _ in range(2):
        pg.get_by_role('button', name='Rank').click()
        assert column(pg, 1)[-2:]==['–','–']

def test_a_file_that_cannot_be_loaded_is_named(long, browser, tmp_path):
    from playwright.sync_api import expect
    out = shutil.copytree(long[2], tmp_path/'out')
    for o in (out/'cells').glob('*.js'): o.unlink()
    c = browser.new_context()
    pg = c.new_page()
    def said(act):
        pg.goto((out/'cells'/f'{CELL}.html').as_uri())
        act()
        expect(pg.locator('.count').first).to_contain_text('could not be loaded')
    said(lambda: pg.get_by_role('button', name='Show 100 more').click())
    said(lambda: pg.get_by_role('combobox', name='Status').focus())
    said(lambda: pg.get_by_role('searchbox').fill('trick'))
    c.close()
    c = browser.new_context()
    pg = c.new_page()
    shutil.copy(long[2]/'cells'/f'{CELL}.js', out/'cells')
    def download():
        pg.get_by_role('searchbox').fill('trick')
        expect(pg.locator('.downloads')).to_contain_text('this view')
        pg.get_by_role('link', name='CSV', exact=True).click()
    said(download)
    c.close()

def same_seeds(o):
    "The row as if all its seeds had ended alike"
    def f(r):
        for x in r['runs'][1:]: x.update({k:r['runs'][0][k] for k in ('correct','preds','curve')})
    return Row(doctored(o.record, f))

def test_the_picker_says_what_the_table_says(pool, tab, tmp_path):
    "Also where all seeds of two rows ended alike, and where a row has a part with parameters of its own"
    rows = [same_seeds(make_row(i, pool)) for i in (0, 1, 5)] + [make_row(i, pool) for i in (2, 3)]
    def part(r): r['recipe'] = to_dict(from_dict(r['recipe']).but(aug='rand', sched='warm_flat'))
    board = from_rows([*rows, Row(doctored(make_row(6, pool).record, part, own=True))])
    out = write(build(board), tmp_path/'out')
    for e in board.entries:
        pg = tab(out, f'rows/{e.id}.html')
        pg.get_by_role('button', name='Compare with any other row').click()
        pg.wait_for_selector('#other')
        for o in board.entries:
            if o is e: continue
            cells_ = pg.locator('table.versus tr', has=pg.locator(f'a[href="{o.id}.html"]')).locator('th,td')
            _,diff,interval,p,change = cells_.all_inner_texts()
            pg.select_option('#other', o.id)
            said = pg.locator('#pick [role=status]').inner_text()
            assert f'{diff} points' in said
            known = f'(95 % interval {interval}), p_beat {p}.' if interval!='–' else 'show no noise'
            assert known in said, (said, interval, p)
            mine = [x for x in said.splitlines() if '→' in x]
            few,_,left = re.sub(r'; (\d+) more$', r'|\1', change).partition('|')
            want = few.split('; ') if '→' in few else []
            assert set(want)<=set(mine) and len(mine)==len(want)+int(left or 0), (change, mine)

def test_dark_and_print(site, some, tab):
    def back(**kw):
        pg = tab(site, 'index.html', **kw)
        return pg, pg.evaluate('getComputedStyle(document.documentElement).backgroundColor')
    assert back(color_scheme='dark')[1]!=back(color_scheme='light')[1]
    pg,_ = back()
    pg.emulate_media(media='print')
    assert not pg.locator('nav').first.is_visible()

def test_downloads(site, some, tab):
    with server(site, 0) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        pg = tab(site, f'cells/{CELL}.html', f'http://127.0.0.1:{s.server_port}')
        for kind in ('CSV','JSON','LaTeX','BibTeX'):
            with pg.expect_download(timeout=9000) as d: pg.get_by_role('link', name=kind, exact=True).click()
            assert Path(d.value.path()).read_bytes()==(site/'cells'/d.value.suggested_filename).read_bytes()
        s.shutdown()

def test_a_view_is_downloaded_as_it_is_shown(site, some, tab):
    "Filtered and sorted, each file has the rows that the page shows, in their order"
    with server(site, 0) as s:
        Thread(target=s.serve_forever, daemon=True).start()
        pg = tab(site, f'cells/{CELL}.html', f'http://127.0.0.1:{s.server_port}')
        pg.get_by_role('combobox', name='Device').select_option('NVIDIA H100')
        pg.get_by_role('button', name='Accuracy, %').click()
        pg.get_by_role('button', name='Accuracy, %').click()
        ids = pg.locator('#rows tbody tr').evaluate_all('rows => rows.map(o => o.dataset.id)')
        assert len(ids)==4 and 'Download this view (4 rows)' in pg.locator('.downloads').inner_text()
        assert pg.locator('.count').inner_text()=='4 of 8'
        for name,kind in (('CSV','csv'), ('JSON','json'), ('LaTeX','tex'), ('BibTeX','bib')):
            with pg.expect_download(timeout=9000) as d: pg.get_by_role('link', name=name, exact=True).click()
            assert d.value.suggested_filename==f'{CELL}.view.{kind}'
            text = Path(d.value.path()).read_text(encoding='utf-8')
            found = re.findall('|'.join(e.id for e in some.entries), text)
            assert list(dict.fromkeys(found))==ids, kind
            if kind=='json': assert [o['id'] for o in json.loads(text)['rows']]==ids
            if kind=='csv':
                whole = (site/'cells'/f'{CELL}.csv').read_text(encoding='utf-8').splitlines()
                assert text.splitlines()[0]==whole[0] and set(text.splitlines())<set(whole)
        s.shutdown()

def test_a_view_is_downloaded_from_the_disk(site, tab):
    pg = tab(site, f'cells/{CELL}.html')
    pg.get_by_role('searchbox').fill('trick no. 7')
    with pg.expect_download(timeout=9000) as d: pg.get_by_role('link', name='CSV', exact=True).click()
    assert len(Path(d.value.path()).read_text(encoding='utf-8').splitlines())==2

def serious(pg):
    pg.evaluate(axe().read_text(encoding='utf-8')) # the page's policy refuses a script element; this is the debugger's
    found = pg.evaluate('axe.run(document, {resultTypes: ["violations"], preload: false})')['violations']
    return [(o['id'], o['nodes'][0]['html'][:160]) for o in found if o['impact'] in ('serious','critical')]

@pytest.mark.slow
def test_axe_has_nothing_serious(site, some, tab):
    need(None if axe() else 'axe-core is not here: pip install axe-playwright-python, or name its file in '
                            '$WOOFBENCH_AXE')
    for page in kinds(some):
        for kw in (dict(color_scheme='light'), dict(color_scheme='dark', viewport=dict(width=375, height=800))):
            assert serious(tab(site, page, **kw))==[], (page, kw)
