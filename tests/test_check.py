"The checker under attack: pull requests, records and rows that somebody made to get past it"
import base64, hashlib, json, math, os, shutil, subprocess, time, zlib
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from conftest import root
from pulls import N, Dogs, board, doctored, put, rule
from woofbench.board.check import SHOWN, Report, check_base, check_bytes, check_path
from woofbench.board.stats.claims import BANDS
from woofbench.board.record.git import landed
from woofbench.board.audit_flags import ceiling
from woofbench.board.row import Row
from woofbench.board.table import load_rows, to_csv
from woofbench.board.record.preds import decode_preds, encode_preds
from woofbench.board.record.record import record_path, to_bytes
from woofbench.registry import BadInput
from woofbench.board.replications import replication_status
from woofbench.board.rules import RULES, WORDS, judge
from woofbench.board.reviews import Review
from woofbench.board.record.seeds import challenge_seeds, official_seeds
from woofbench.board.standing import incumbent, standing
from woofbench.data.track import Track, datasets
from woofbench.train.recipe import config_id, from_dict

CELL = 'records/imagewoof/128-s320-e5'


@pytest.fixture(scope='module')
def repo(tmp_path_factory): return board(tmp_path_factory.mktemp('board')/'repo')

@pytest.fixture(scope='module')
def rows(repo): return [Row(o) for o in repo.rows]

@pytest.fixture(scope='module')
def row(repo): return repo.dogs.entry(code=repo.code, lr=7e-3)


def one_line(s): return isinstance(s, str) and 0<len(s)<=1000 and s.isprintable()

def verdict(rec, rows, place=None):
    "The verdict on a record, which has to be a word with one-line reasons"
    v,_ = check_bytes(rec if isinstance(rec, bytes) else to_bytes(rec), place or record_path(rec).as_posix(), rows)
    assert v.word in WORDS and v.reasons and all(map(one_line, v.reasons+v.notes)), v
    return v


# Trees

def canary(repo): return repo.path.parent/'canary'

def payload(repo): return f'open({str(canary(repo))!r}, "w").write("ran")\n'.encode()

def rejected(repo, head, why):
    "The pull request is invalid, says `why` in a line, shows no working text anywhere, and ran nothing"
    rep = check_base('main', head, repo.path)
    said = [o for _,v in rep.items for o in v.reasons]
    assert rep.word=='invalid' and not rep.ok and all(map(one_line, said)), rep
    assert why in ' '.join(said), rep
    harmless(rep)
    assert not canary(repo).exists()
    return rep

def harmless(rep):
    text = str(rep)
    assert text.isascii() and not [o for o in text.splitlines() if o.strip().startswith('::')] and '##[' not in text
    assert all(o.isprintable() for o in text.splitlines())
    md = rep.to_md()
    assert md.isascii() and all(o.isprintable() for o in md.splitlines())
    for o in md.splitlines():
        if not o.startswith('| `'): continue
        bare = ''.join(o.split('`')[::2]) # what is not code
        assert o.count('`')%2==0 and not set(bare) & set('<>[]()*_!#@:\\'), o
    json.loads(json.dumps(rep.to_dict()))

def link(to): return '120000', to

odd_paths = ['::error::pwned', f'{CELL}/::set-output name=x::y.json', f'{CELL}/a\n::error file=x::b.json',
             f'{CELL}/##[add-mask]x.json', f'{CELL}/"quoted".json', f"{CELL}/it's.json",
             f'{CELL}/$(touch canary).json', f'{CELL}/`id`.json', f'{CELL}/-rf.json', f'{CELL}/--output=x.json',
             f'{CELL}/\x1b[31mred.json', f'{CELL}/\u202ebidi.json', f'{CELL}/<script>.json',
             f'{CELL}/| a | b.json', f'{CELL}/[a](x).json', f'{CELL}/\udcff\udcfe.json', f'{CELL}/caf\xe9.json',
             'records/../woofbench/x.json', 'records/./x.json', f'{CELL}/../../x.json',
             'records/.git/config', f'{CELL}/.git/hooks/post-checkout', 'records/.gitattributes', 'records/.gitmodules',
             'records/conftest.py', 'records/sitecustomize.py', f'{CELL}/x.pkl', 'records/reported.md',
             'records/reported.json',
             f'records/Imagewoof/128-s320-e5/{"0"*16}.json', f'Records/imagewoof/128-s320-e5/{"0"*16}.json',
             f'{CELL}/{"A"*16}.json', f'{CELL}/{"0"*16}.JSON', f'{CELL}/deeper/{"0"*16}.json',
             f'{CELL}/{"0"*16}.json\n']

@pytest.mark.parametrize('path', odd_paths, ids=ascii)
def test_odd_paths(repo, path, row):
    rep = rejected(repo, repo.commit({path:payload(repo)} | put(row), repo.base), '')
    assert path in [p for p,_ in rep.items]

def tricks(repo, row):
    "name -> (what the pull request changes, what is said of it)"
    mine,theirs,run = record_path(row).as_posix(),record_path(repo.rows[0]).as_posix(),payload(repo)
    foreign,good = to_bytes(repo.rows[0]),put(row)
    other = dict(workflow={'.github/workflows/check.yml':b'on: pull_request_target\n'},
                 module={'woofbench/board/rules.py':run},
                 program={'setup.py':run, 'conftest.py':run, 'sitecustomize.py':run, 'woofbench/__init__.py':run},
        attributes={'.gitattributes':b'* filter=x diff=x merge=x ident\n', 'x':run},
        config={'.gitconfig':b'[core]\n\tfsmonitor = touch canary\n'},
        hooks={'.githooks/post-checkout':('100755', run), 'hooks/pre-commit':('100755', run)},
        submodules={'.gitmodules':b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% canary\n',
                    'x':('160000', repo.base)}, pickle={'x.pkl':b'cos\nsystem\n(S"touch canary"\ntR.'},
                    notebook={'nbs/board/09_check.ipynb':b'{}'})
    return {k:(good | v, 'brings nothing but rows') for k,v in other.items()} | dict(
        link_to_passwd=({mine:link(b'/etc/passwd')}, 'a link'), link_to_a_row=({mine:link(theirs.encode())}, 'a link'),
        link_of_a_folder=({'records/evil':link(b'/etc')}, 'a link'),
        records_as_link={'records':link(b'/etc')} and ({theirs:None,
                                                        **{record_path(o).as_posix():None for o in repo.rows},
                                                        'records':link(b'/etc')}, 'removed'),
        submodule=({mine:('160000', repo.base)}, 'another repository'),
        program_of_a_row=({mine:('100755', to_bytes(row))}, 'a program'),
        edited=({theirs:foreign.replace(b'"note": ""', b'"note": "x"')}, 'changed'), emptied=({theirs:b''}, 'changed'),
        removed=({theirs:None}, 'removed'), made_a_link=({theirs:link(b'x')}, 'made into something else'),
        renamed=({theirs:None, f'{CELL}/{"0"*16}.json':foreign}, 'removed'),
        copied_under_another_name=({f'{CELL}/{"0"*16}.json':foreign}, 'its id is'),
        another_place=({f'records/imagewoof/128-s320-e20/{row["record_id"]}.json':to_bytes(row)}, 'must be at'),
        by_a_dot=({mine.replace('records/', 'records/./'):to_bytes(row)}, 'must be at'),
        another_dataset=({f'records/imagenette/128-s320-e5/{row["record_id"]}.json':to_bytes(row)}, 'must be at'),
        case_clash=({mine:to_bytes(row), mine.replace('imagewoof', 'Imagewoof'):to_bytes(row)}, 'must be at'),
        large=({mine:to_bytes(row) + b' '*5_000_000}, 'bytes are more than'), sparse=({mine:b'\0'*900_000}, 'not JSON'),
        pickled=({mine:b'\x80\x04cos\nsystem\n'}, 'not UTF-8'), code=({mine:run}, 'not JSON'),
        table=(good | {'leaderboard.csv':b'dataset,mean\nimagewoof,0.99\n'}, 'not what the records give'),
        table_alone=({'leaderboard.csv':b'=cmd|calc'}, 'not what the records give'),
        table_removed=({'leaderboard.csv':None}, 'not what'),
        table_as_link=(good | {'leaderboard.csv':link(b'/etc/passwd')}, 'not what'),
        huge_table=(good | {'leaderboard.csv':b'a'*3_000_000}, 'not what'),
        many=({f'{CELL}/{i:016x}.json':b'{}' for i in range(60)}, 'at most 20 rows'))

@pytest.fixture(scope='module')
def all_tricks(repo, row): return tricks(repo, row)

names = [*'workflow module program attributes config hooks submodules pickle notebook link_to_passwd link_to_a_row '
          'link_of_a_folder records_as_link submodule program_of_a_row edited emptied removed made_a_link '
          'renamed'.split(),
         *'copied_under_another_name another_place by_a_dot another_dataset case_clash large sparse pickled code table '
          'table_alone table_removed table_as_link huge_table many'.split()]

@pytest.mark.parametrize('name', names)
def test_tricks(repo, all_tricks, name):
    files,why = all_tricks[name]
    rejected(repo, repo.commit(files, repo.base), why)

def test_all_tricks_are_tried(all_tricks): assert set(all_tricks)==set(names)

def test_a_good_row_is_a_candidate_or_valid(repo, row):
    rep = check_base('main', repo.commit(put(row), repo.base), repo.path)
    assert rep.word in ('valid','new best') and len(rep.items)==1 and not rep.other, rep
    harmless(rep)

def test_other_files_alone_are_left_to_people(repo):
    run = payload(repo)
    rep = check_base('main', repo.commit({'setup.py':run, 'conftest.py':run, 'sitecustomize.py':run, '::error::x':run},
                                         repo.base), repo.path)
    assert rep.word=='no rows' and rep.ok and len(rep.other)==4
    harmless(rep)
    assert not canary(repo).exists()

def test_a_report_is_short_however_much_is_wrong():
    from woofbench.board.rules import Verdict
    rep = Report(tuple((f'::x{i}', Verdict('invalid', ('`<b>`|',))) for i in range(10_000)),
                 tuple(map(str, range(10_000))))
    assert len(rep.to_md())<20_000 and len(str(rep).splitlines())<3*SHOWN+10
    harmless(rep)


# Histories

def test_base_that_moved(repo, row):
    "The pull request began two commits ago; what the base did since is not held against it"
    side = repo.commit(put(row), repo.base)
    moved = repo.commit({'README.md':b'news'} | put(repo.dogs.entry(code=repo.code, lr=6e-3)), repo.base)
    assert check_base(moved, side, repo.path).ok
    merged = repo.commit(put(row), side, moved, on=moved)
    assert [p for p,_ in check_base(moved, merged, repo.path).items]==list(put(row))
    landed = repo.commit(put(row), moved)
    rep = check_base(landed, side, repo.path)
    assert rep.word=='no rows' and rep.ok # it has landed, to the byte
    other = put(row) | {record_path(row).as_posix():to_bytes(row | dict(note='another'))}
    rep = check_base(landed, repo.commit(other, repo.base), repo.path)
    assert rep.word=='invalid' and 'on the board already' in str(rep)

def test_a_merge_that_changes_a_row(repo, row):
    side = repo.commit(put(row), repo.base)
    moved = repo.commit({'README.md':b'news'}, repo.base)
    evil = repo.commit(put(row) | {record_path(repo.rows[0]).as_posix():b'{}'}, side, moved, on=moved)
    rep = check_base(moved, evil, repo.path)
    assert rep.word=='invalid' and 'must not be changed' in str(rep)

def test_no_common_history(repo, row):
    for head in (repo.commit(put(row), on=repo.base), repo.commit({'a':b'b'})):
        with pytest.raises(BadInput, match='no commit in common'): check_base('main', head, repo.path)

def test_shallow_clone(repo, row, tmp_path):
    # not called shallow: git has a file of that name
    repo.git('update-ref', 'refs/heads/pull', repo.commit(put(row), repo.base))
    repo.git('update-ref', 'refs/heads/moved', repo.commit({'a':b'b'}, repo.base))
    def git(*args): subprocess.run(['git', '-C', tmp_path, *args], check=True, env=repo.env)
    git('init', '-q')
    git('fetch', '-q', '--depth', '1', f'file://{repo.path}', 'moved:moved', 'pull:pull')
    with pytest.raises(BadInput, match='does not go back to it'): check_base('moved', 'pull', tmp_path)

@pytest.mark.parametrize('ref',
                         ['--output=x', '-x', 'no-such-branch', 'main:setup.py', '', '$(id)', 'a b', 'HEAD^{tree}',
                          'refs/heads/\n'])
def test_odd_refs(repo, ref):
    with pytest.raises(BadInput) as e: check_base('main', ref, repo.path)
    assert one_line(str(e.value))

def test_replaced_and_grafted_objects(repo, row):
    "What a replace ref or a graft says of history is not believed"
    other = repo.commit(put(row), repo.base)
    evil = repo.commit({record_path(repo.rows[0]).as_posix():b'{}'}, repo.base)
    repo.git('update-ref', f'refs/replace/{evil}', other)
    try: rejected(repo, evil, 'must not be changed')
    finally: repo.git('update-ref', '-d', f'refs/replace/{evil}')

def test_filters_and_drivers_of_the_clone_are_not_used(repo, row):
    run = f'touch {canary(repo)}'
    conf = {'filter.x.smudge':run, 'filter.x.clean':run, 'diff.x.textconv':run, 'diff.external':run,
            'core.fsmonitor':run, 'core.hooksPath':str(repo.path/'hooks'), 'core.pager':run}
    for k,v in conf.items(): repo.git('config', k, v)
    try:
        rejected(repo, repo.commit(put(row) | {'.gitattributes':b'* filter=x diff=x\n'}, repo.base),
                 'brings nothing but rows')
    finally:
        for k in conf: repo.git('config', '--unset', k)


# Code

def test_code_that_nobody_has_seen(repo):
    stray = repo.commit({'woofbench/board/record/strict.py':b'pass\n'}, repo.base)
    empty = repo.commit({}) # a commit without a package has no source to compare with
    repo.git('update-ref', 'refs/heads/grown', repo.commit({}, repo.base, empty))
    cases = [(repo.code | dict(source_sha256='f'*16), 'is not that of its commit'),
             (repo.code | dict(commit=stray), 'not in the history'),
             (repo.code | dict(commit='e'*40), 'not in the history'),
             (repo.code | dict(commit=None), 'cannot be looked up'),
             (repo.code | dict(commit=empty, source_sha256=hashlib.sha256().hexdigest()[:16]),
              'is not that of its commit')]
    for i,(code,why) in enumerate(cases):
        head = repo.commit(put(repo.dogs.entry(code=code, lr=(50+i)*1e-4)), repo.base)
        rep = check_base('grown', head, repo.path)
        assert rep.word=='needs audit' and why in str(rep), rep


# Text

bad_text = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', 'x;=1+1', '\uff1d1', '<script>alert(1)</script>',
            '<img src=x onerror=alert(1)>', '[a](https://example.org)', '| a | b |', '`id`', '\u202eabc', 'a\u200bb',
            'a\ufeffb', '\u3164',
            'a\x00b', 'a\x1b[31mb', 'a\nb', 'a\r::error::b', '::error::x\n', '\ud800', 'e\u0301', ' a', 'a'*301,
            '##[add-mask]x', '\U000e0041x', 'x\u2028y', "\\'"]
fields = [('note',), ('claim','method'), ('claim','authors'), ('env','device'), ('env','platform'), ('env','python'),
          ('env','context'), ('env','cuda'), ('env','versions','torch'), ('data','edition'), ('data','classes',0),
          ('code','version'), ('code','source_sha256'), ('code','commit'), ('engine',), ('created',),
          ('runs',0,'init_sha256'), ('runs',0,'device'), ('runs',0,'preds'), ('seeds','kind'), ('seeds','nonce'),
          ('based_on',),
          ('recipe','opt'), ('recipe','precision'), ('recipe','sched'), ('recipe','model','act'),
          ('recipe','model','sa'), ('recipe','model','kind'), ('track','dataset'), ('track','source'), ('config_id',)]

@pytest.mark.parametrize('where', fields, ids=lambda o: '.'.join(map(str, o)))
def test_text(rows, row, where):
    for text in bad_text:
        def f(rec, text=text):
            for k in where[:-1]: rec = rec[k]
            rec[where[-1]] = text
        v = verdict(doctored(row, f), rows, record_path(row).as_posix())
        assert v.word=='invalid', (text, v)
        harmless(Report((('x', v),)))

def inner(r, at):
    for k in at: r = r[k]
    return r

def test_text_in_keys(rows, row):
    for text in bad_text:
        for at in (('env','versions'), ('recipe',), (), ('recipe','model')):
            v = verdict(doctored(row, lambda r, at=at, text=text: inner(r, at).update({text:'1'})), rows,
                        record_path(row).as_posix())
            assert v.word=='invalid', (text, v)
            harmless(Report((('x', v),)))


# Bytes

def raw_tricks(row):
    good = to_bytes(row)
    def sub(a, b): return good.replace(a, b, 1)
    return dict(nan=(sub(b'"train_s": 9.0', b'"train_s": NaN'), 'not a number'),
                infinity=(sub(b'"train_s": 9.0', b'"train_s": Infinity'), 'not a number'),
                overflow=(sub(b'"train_s": 9.0', b'"train_s": 1e999'),
                          'record.runs[0].curve[0].train_s: Expected float < '),
        recipe_overflow=(sub(b'"lr": 0.007', b'"lr": 1e999'), 'lr must be'),
        twice=(sub(b'"note": ""', b'"note": "", "note": "x"'), 'twice'),
        digits=(sub(b'"schema": 3', b'"schema": ' + b'9'*5000), '5000 digits'),
        negative=(sub(b'"attempts": 1', b'"attempts": -1'), 'record.attempts: Expected int >= 0'),
        boolean=(sub(b'"attempts": 1', b'"attempts": true'), 'record.attempts: Expected int, got bool'),
        deep=(b'['*100_000, 'levels'), deep_objects=(b'{"a":'*100_000, 'levels'),
        surrogate=(sub(b'"note": ""', b'"note": "\\ud800"'), 'record: note is not text that may be shown'),
        utf16=(good.decode().encode('utf-16'), 'not UTF-8'), bom=(b'\xef\xbb\xbf'+good, 'not JSON'),
        latin=(sub(b'"note": ""', b'"note": "\xe9"'), 'not UTF-8'),
        cut=(good[:-100], 'not JSON'), empty=(b'', 'not JSON'), null=(b'null', 'schema'), number=(b'1', 'schema'),
        listed=(b'[]', 'schema'), spaces=(good.replace(b': ', b':  '), 'not written as'),
        no_newline=(good[:-1], 'not written as'),
        crlf=(good.replace(b'\n', b'\r\n'), 'not written as'),
        old_schema=(sub(b'"schema": 3', b'"schema": 4'), 'schema 4'),
        keys=(b'{' + b','.join(b'"%d":1' % i for i in range(90_000)) + b',"1":2}', 'twice'),
        fraction=(sub(b'"lr": 0.007', b'"lr": 0.' + b'0'*300_000 + b'7'), 'id'), quotes=(b'"'*900_000, 'not JSON'),
        slashes=(b'"' + b'\\'*900_000, 'not JSON'))

@pytest.mark.parametrize('name',
                         'nan infinity overflow recipe_overflow twice digits negative boolean deep deep_objects '
                         'surrogate utf16 bom latin cut empty null number listed spaces no_newline crlf old_schema '
                         'keys fraction quotes slashes'.split())
def test_bytes(rows, row, name):
    raw,why = raw_tricks(row)[name]
    start = time.process_time()
    v = verdict(raw, rows, record_path(row).as_posix())
    assert v.word=='invalid' and (why in str(v) or name=='fraction'), v
    assert time.process_time()-start<5

def bomb(n): # zeros of n bytes, as a prediction
    z = zlib.compressobj(9)
    return base64.b85encode(b''.join(z.compress(bytes(1<<20)) for _ in range(n>>20)) + z.flush()).decode()

def test_compression_bomb(rows, row):
    text = bomb(1<<25)
    def small(r): r['runs'][0]['preds'] = text
    def asked(r):
        r['data'] |= dict(n_val=1<<40, known=False)
        small(r)
    start = time.process_time()
    for f,why in ((small, 'predictions are for'), (asked, 'validation images')):
        v = verdict(doctored(row, f), rows)
        assert v.word=='invalid' and why in str(v), v
    assert time.process_time()-start<5

odd_numbers = [('no images', lambda r: r['data'].update(n_val=0, known=False), '1 to 50000'),
               ('many seeds', lambda r: r.update(runs=r['runs']*11), 'record.runs: Expected array of length <= 50'),
               ('a class that is none', lambda r: r['runs'][0].update(preds=shifted(r)), 'a class that is none'),
    ('no attempt', lambda r: r.update(attempts=0), 'it must be at least 1'),
    ('rules to come', lambda r: r.update(rules=99), 'version 99'),
    ('time in other digits', lambda r: r.update(created='2026-11-24T0\u0660:00:00Z'), 'is not a time'),
    ('no such day', lambda r: r.update(created='2026-11-31T00:00:00Z'), 'is not a time'),
    ('tomorrow and more', lambda r: r.update(created='2099-01-01T00:00:00Z'), 'after today'),
    ('long ago', lambda r: r.update(created='2019-01-01T00:00:00Z'), 'before this program'),
    ('source in other digits', lambda r: r['track'].update(source='\uff13\uff12\uff10'), 'source must be'),
    ('source with a zero', lambda r: r['track'].update(source='0320'), 'source must be'),
    ('lists in lists', lambda r: r['recipe']['model'].update(act=[['relu']*4]*4), 'record.recipe'),
    ('whole where parts are', lambda r: r['recipe'].update(mixup=0), 'not canonical'),
    ('nothing below nothing', lambda r: r['recipe'].update(wd=-0.), 'not canonical'),
    ('what it stands on', lambda r: r.update(based_on='x'), 'not the id of a record'),
    ('no time at all', lambda r: r['runs'][0]['curve'][0].update(train_s=0.), 'took no time'),
    ('a loss that was not', lambda r: r['runs'][0]['curve'][0].update(train_loss=None), 'not finite'),
    ('another device', lambda r: r['runs'][0].update(device='x'), 'another device')]

def shifted(r): return encode_preds([77 if i>3000 else 0 for i in range(N)], [0]*N, 255)

@pytest.mark.parametrize('_,f,why', odd_numbers, ids=lambda o: o if isinstance(o, str) and ' ' in o else '')
def test_numbers(rows, row, _, f, why):
    rec = doctored(row, f)
    if 'class' in why:
        k = N-(N-3001)
        def count(r): r['runs'][0].update(correct=k), r['runs'][0]['curve'][-1].update(correct=k)
        rec = doctored(rec, count)
    v = verdict(rec, rows, record_path(row).parent.as_posix()+f'/{rec["record_id"]}.json')
    assert v.word=='invalid' and why in str(v), v

def test_networks_that_would_take_forever(rows, row):
    for kw in (dict(depths=[500]*4, widths=[16384]*4), dict(depths=[30]*4, widths=[512]*4, expansion=64),
               dict(groups=16384), dict(width_per_group=16384), dict(norm='never_heard_of'), dict(stem_szs=[16384]*32)):
        def f(r, kw=kw):
            r['recipe']['model'].update(kw)
            r['seeds']['kind'] = 'chosen'
        rec = doctored(row, f, own=True)
        start = time.process_time()
        v = verdict(rec, [])
        # one group has no width of its own
        assert 'cannot be counted' in str(
                v) or 'counted here' in str(v) or 'width_per_group' in kw and 'not canonical' in str(v), v
        assert time.process_time()-start<25


# Seeds, costs and copies

def test_seeds(repo, rows, row):
    def moved(r): r['runs'][0]['seed'] += 1
    assert 'the official seeds are' in str(verdict(doctored(row, moved), rows))
    def chosen(r): r['seeds']['kind'] = 'chosen'
    v = verdict(doctored(row, chosen), rows)
    assert v.word=='valid' and 'chosen seeds' in str(v) # whoever calls official seeds chosen gets no rank for them
    explored = repo.dogs.entry(.9, range(5), code=repo.code, lr=6.5e-3)
    v = verdict(explored, [])
    assert v.word!='new best'
    v = verdict(repo.dogs.entry(.72, range(5), code=repo.code, lr=6.5e-3), rows)
    assert v.word=='valid' and 'exploration' in str(v)
    nonce,base = 'a'*40,repo.rows[0]
    def challenge(r, seeds):
        r.update(based_on=base['record_id'], seeds=dict(kind='challenge', nonce=nonce),
                 runs=[o | dict(seed=s) for o,s in zip(r['runs'], sorted(seeds))])
    fresh = repo.dogs.entry(.7, code=repo.code)
    assert 'challenge seeds are' in str(verdict(doctored(fresh, lambda r: challenge(r, official_seeds(r['config_id']))),
                                                rows))
    v = verdict(doctored(fresh, lambda r: challenge(r, challenge_seeds(base['record_id'], nonce))), rows)
    assert v.word=='valid' and 'challenge of' in str(v)
    for edit,why in ((lambda r: r.update(based_on=None), 'which record it challenges'),
                     (lambda r: r.update(based_on='0'*16), 'the challenge seeds are'),
                     (lambda r: r['seeds'].update(nonce=None), 'a nonce belongs'),
                     (lambda r: r['seeds'].update(nonce='x|y'), '')):
        assert verdict(doctored(doctored(fresh, lambda r: challenge(r, challenge_seeds(base['record_id'], nonce))),
                                edit), rows).word=='invalid', why

def test_a_replication_of_nothing(repo, rows, row):
    for base,why in (('0'*16, 'not on the board'), (repo.rows[0]['record_id'], 'another configuration')):
        v = verdict(doctored(row, lambda r, base=base: r.update(based_on=base)), rows)
        assert v.word=='needs audit' and why in str(v), v

def test_costs(rows, row):
    for k in ('params','macs'):
        v = verdict(doctored(row, lambda r, k=k: r['cost'].update({k:r['cost'][k]-1})), rows)
        assert v.word=='needs audit' and f'{k} is' in str(v), v

def test_copies(repo, rows, row):
    def within(r): r['runs'][1] |= {k:r['runs'][0][k] for k in ('correct','preds','curve')}
    def from_another(r): r['runs'][1] |= {k:repo.rows[0]['runs'][2][k] for k in ('correct','preds','curve')}
    for f,why in ((within, 'the same predictions'), (from_another, f'in {repo.rows[0]["record_id"]}')):
        v = verdict(doctored(row, f), rows)
        assert v.word=='invalid' and why in str(v), v

def test_two_records_of_one_pull_request_with_one_vector(repo, row):
    twin = repo.dogs.entry(code=repo.code, lr=7.5e-3)
    twin = doctored(twin, lambda r: r['runs'][1].update({k:row['runs'][2][k] for k in ('correct','preds','curve')}))
    rejected(repo, repo.commit(put(row) | put(twin), repo.base), 'the same predictions as seed')


def test_one_network_has_one_hash(repo, rows):
    "What changes the hash of a configuration, and with it the official seeds, changes the network"
    plain = from_dict(repo.rows[0]['recipe'])
    same = [dict(act=['mish']*4), dict(attn=['none']*4), dict(expansion=[1]*4), dict(width_per_group=65),
            dict(stem_act='mish'), dict(pool=['max','avg','avg','avg']), dict(lr=1.00001e-2)]
    for kw in same: assert plain.but(**kw)==plain, kw
    def spelled(**kw): return doctored(repo.rows[0], lambda r: r['recipe']['model'].update(kw), own=True)
    for kw in (dict(act=['mish']*4), dict(width_per_group=65), dict(stem_act='mish'),
               dict(pool=['max','avg','avg','avg'])):
        v = verdict(spelled(**kw), rows)
        assert v.word=='invalid' and 'not canonical' in str(v), (kw, v)
    for kw,field in ((dict(block='reduce_first', down='max_blur'), 'down'), (dict(block='dw_x4', groups=2), 'groups'),
                     (dict(stem='space_to_depth', stem_szs=(9,8,16)), 'stem_szs')):
        v = verdict(repo.dogs.entry(code=repo.code, arch='xresnet10_tiny', **kw), rows)
        assert v.word=='invalid' and f'{field} makes no difference' in str(v), (kw, v)

def with_preds(rec, preds):
    "The record with other predictions, and counts that fit"
    def f(r):
        for o,p in zip(r['runs'], preds):
            o.update(preds=encode_preds(p, [0]*N, 10), correct=p.count(0))
            o['curve'][-1]['correct'] = o['correct']
    return doctored(rec, f)

def preds_of(rec): return [decode_preds(r['preds'], N) for r in rec['runs']]

@pytest.mark.parametrize('by', (40, 130, 170))
def test_errors_of_another_row_put_right(repo, rows, by):
    "Whoever takes the best row, puts errors right and calls it another recipe"
    def mended(p):
        wrong = [i for i,o in enumerate(p) if o]
        return [0 if i in set(repo.dogs.rng.permutation(wrong)[:by].tolist()) else o for i,o in enumerate(p)]
    best = max(repo.rows, key=lambda o: Row(o).mean)
    v = verdict(with_preds(repo.dogs.entry(code=repo.code, lr=7.1e-3), [mended(p) for p in preds_of(best)]), rows)
    assert v.word=='needs audit' and best['record_id'] in str(v) and 'of their errors' in str(v), v

def test_errors_of_no_dogs(repo, rows):
    "Made up as well as can be, but not for these images; and from another size of the same images"
    elsewhere = Dogs(7).entry(.73, code=repo.code, lr=7.2e-3)
    v = verdict(elsewhere, rows)
    assert v.word=='needs audit' and 'fall on other images' in str(v), v
    rec = doctored(elsewhere, lambda r: (r['track'].update(epochs=20),
                                         r.update(runs=[o | dict(seed=s, curve=[o['curve'][0]]*19+[o['curve'][-1]])
                                                        for o,s in zip(r['runs'], sorted(
                                                                official_seeds(config_id(Track(**r['track']),
                                                                        from_dict(r['recipe'])))))])), own=True)
    v = verdict(rec, rows)
    assert v.word=='needs audit' and 'fall on other images' in str(v), v
    assert verdict(repo.dogs.entry(.7, code=repo.code, lr=7.2e-3), rows).word in ('valid','new best')

def test_a_copy_is_no_repetition(repo, rows):
    base = repo.rows[0]
    def again(r): r.update(created='2026-11-26T00:00:00Z', based_on=base['record_id'])
    def timed(r):
        again(r)
        for o in r['runs']: o['curve'][0]['train_s'] += .125
    def elsewhere(r):
        timed(r)
        r['env']['device'] = 'loom'
        for o in r['runs']: o['device'] = 'loom'
    def ranked(r): elsewhere(r), r.update(based_on=None)
    said = [verdict(doctored(base, f), rows) for f in (again, timed, elsewhere, ranked)]
    # whoever has a replay to show has trained, or says so; it is counted as a replay
    assert [o.word for o in said]==['invalid','valid','needs audit','needs audit']
    assert 'a copy, and no training' in str(
            said[0]) and 'another device' in str(said[2]) and 'has a rank already' in str(said[3])
    replay = Row(doctored(base, timed))
    assert replication_status(rows[0], [*rows, replay])=='replayed by 1'
    # the same configuration, trained again, and not said to be
    other = repo.dogs.entry(code=repo.code, created='2026-11-27T00:00:00Z')
    v = verdict(other, rows)
    assert v.word=='needs audit' and 'has a rank already' in str(v)
    assert standing(Row(other), [*rows,
                                 Row(other)])==f'unranked: the configuration of {base["record_id"]}' and standing(
                                         rows[0], [*rows, Row(other)])=='ranked'

def patchwork(repo, rec, shift=0):
    "Five vectors of which every prediction is that of one seed or another, with some errors put right"
    v,rng = np.array(preds_of(rec)),repo.dogs.rng
    res = []
    for _ in range(5):
        o = v[rng.integers(0, 5, N), np.arange(N)]
        o[rng.permutation(np.flatnonzero(o))[:shift]] = 0
        res.append(o.tolist())
    return res

def test_a_patchwork_of_somebodys_seeds(repo, rows):
    best = max(repo.rows, key=lambda o: Row(o).mean)
    for by in (0, 60, 120):
        v = verdict(with_preds(repo.dogs.entry(code=repo.code, lr=7.8e-3), patchwork(repo, best, by)), rows)
        assert v.word=='needs audit' and 'in no seed of' in str(v), (by, v)

def test_repetitions_without_training(repo, rows):
    "A file with one answer changed in every seed; a challenge patched together; one with changed code"
    base = repo.rows[0]
    def other(p):
        i = next(i for i,o in enumerate(p) if o)
        return [*p[:i], p[i]%9+1, *p[i+1:]]
    def again(r): r.update(based_on=base['record_id'], created='2026-11-26T00:00:00Z')
    v = verdict(doctored(with_preds(base, [other(p) for p in preds_of(base)]), again), rows)
    assert v.word=='needs audit' and 'of their errors' in str(v), v
    nonce = 'a'*40
    def fresh(r):
        again(r), r.update(seeds=dict(kind='challenge', nonce=nonce),
                           runs=[o | dict(seed=s) for o,s in zip(r['runs'],
                                                                 sorted(challenge_seeds(base['record_id'], nonce)))])
    v = verdict(doctored(with_preds(base, patchwork(repo, base)), fresh), rows)
    assert v.word=='needs audit' and 'in no seed of' in str(v), v
    def dirty(r): again(r), r['code'].update(dirty=True)
    v = verdict(doctored(repo.dogs.entry(Row(base).mean, code=repo.code), dirty), rows)
    assert v.word=='needs audit' and 'changed code' in str(v), v

def test_rows_that_nobody_looked_at_do_not_raise_the_bar(repo, rows):
    high = [Row(repo.dogs.entry(acc, code=repo.code, lr=lr)) for acc,lr in ((.74, 6e-3), (.79, 6.1e-3))]
    assert ceiling(high[0].track, [*rows, *high])==ceiling(high[0].track, [])
    seen = Row(high[1].record, review=Review(high[1].id, 'audited', 'because', '2026-11-27'))
    assert ceiling(seen.track, [*rows, seen])>ceiling(seen.track, [])

def test_a_false_row_that_was_taken_out_hurts_nobody(repo, rows):
    "Neither its world nor what it stole is held against others any more"
    honest = repo.dogs.entry(code=repo.code, lr=7.9e-3)
    thief = with_preds(repo.dogs.entry(code=repo.code, lr=8.1e-3), preds_of(honest))
    false = Dogs(9).entry(code=repo.code, lr=8.2e-3)
    def board(word):
        return [*rows, *(Row(o, review=word and Review(o['record_id'], word, 'because', '2026-11-27'))
                         for o in (thief, false))]
    assert verdict(honest, board(None)).word=='invalid'
    v = verdict(honest, board('retracted'))
    assert v.word in ('valid','new best'), v

def test_numbers_that_change_nothing_but_the_hash(repo, rows):
    plain = from_dict(repo.rows[0]['recipe'])
    for k in ('gamma_l2','wd','smooth','eps','ema'):
        with pytest.raises(BadInput, match='at least 1e-08'): plain.but(**{k:1e-300})
    for o,why in ((.76, 'write 0.75'), (.75, '')):
        v = verdict(repo.dogs.entry(code=repo.code, progressive=o), rows)
        assert (v.word=='invalid' and why in str(v)) if why else v.word!='invalid', v

def test_a_branch_that_goes_on_after_a_squash(repo, row):
    first = repo.commit(put(row), repo.base)
    more = repo.commit(put(repo.dogs.entry(code=repo.code, lr=8.3e-3)), first)
    squashed = repo.commit(put(row), repo.base)
    squashed = repo.commit({'README.md':b'news'}, squashed)
    rep = check_base(squashed, repo.commit({}, more), repo.path)
    assert rep.ok and len(rep.items)==1 or 'on the board' not in str(rep), rep

def test_a_ruling_answers_what_came_before_it(repo, rows):
    base = rows[0]
    less = repo.dogs.entry(base.mean-.06, code=repo.code, created='2026-11-26T00:00:00Z')
    less = Row(doctored(less, lambda r: r.update(based_on=base.id)))
    for day,word in (('2026-11-27','ranked'), ('2026-11-25','unranked: contradicted')):
        ruled = Row(base.record, review=Review(base.id, 'audited', 'because', day))
        assert standing(ruled, [ruled, less])==word

def test_a_contradiction_is_for_people(repo, rows):
    base = max(repo.rows, key=lambda o: Row(o).mean)
    lr = from_dict(base['recipe']).lr
    less = doctored(repo.dogs.entry(Row(base).mean-.05, code=repo.code, lr=lr, created='2026-11-26T00:00:00Z'),
                    lambda r: r.update(based_on=base['record_id']))
    v = verdict(less, rows)
    assert v.word=='needs audit' and 'contradicts' in str(v), v
    top = next(o for o in rows if o.id==base['record_id'])
    both = [*rows, Row(less)]
    assert standing(top, both)=='unranked: contradicted' and incumbent(top.track, both).id!=top.id
    for id,word in ((less['record_id'],'retracted'), (base['record_id'],'audited')):
        ruled = [Row(o.record, review=Review(o.id, word, 'because', '2026-11-27') if o.id==id else None) for o in both]
        assert incumbent(top.track, ruled).id==top.id, word
    out = [Row(o.record, review=Review(o.id, 'disputed', 'because', '2026-11-27') if o.id==top.id else None)
           for o in rows]
    assert incumbent(top.track, out).id!=top.id and 'unranked: disputed' in to_csv(out)

def test_what_nobody_knows(repo, rows):
    """The first row of images that nobody has seen, of a cell that nobody knows, with everything right, or with five
    equal counts"""
    first,seen = repo.dogs.entry(code=repo.code, lr=7.3e-3),datasets['imagewoof'].images
    assert 'another hash' in str(verdict(first, [])), 'than the images that a maintainer has seen'
    was = seen.pop('320')
    try:
        assert 'its images are not known here' in str(verdict(first, []))
        seen['320'] = '0'*64
        assert verdict(first, []).word=='new best'
        seen['320'] = '1'*64
        assert 'another hash' in str(verdict(first, []))
    finally: seen['320'] = was
    noisy = doctored(first, lambda r: (r['track'].update(noise=50),
                                       r.update(runs=[o | dict(seed=s) for o,
                                                      s in zip(r['runs'], sorted(
                                                              official_seeds(config_id(Track(**r['track']),
                                                                      from_dict(r['recipe'])))))])), own=True)
    assert 'nothing says what is plausible' in str(verdict(noisy, rows))
    right = with_preds(noisy, [[0]*N]*5)
    v = verdict(right, rows)
    assert v.word=='needs audit' and 'so few errors' in str(v) and 'all seeds have the same count' in str(v), v
    full = doctored(first, lambda r: (r['track'].update(source='full'), r['data'].update(edition='imagewoof2'),
                                      r.update(runs=[o | dict(seed=s) for o,
                                                     s in zip(r['runs'], sorted(
                                                             official_seeds(config_id(Track(**r['track']),
                                                                     from_dict(r['recipe'])))))])), own=True)
    # 128 px from the full images are no cell of the board
    assert not Row(full).track.official and Row(full).status=='practice'

def test_seeds_that_agree_too_well(repo, rows):
    "A row by itself; what else its authors have on the board does not matter"
    def rec(lr, noise):
        return repo.dogs.entry(code=repo.code, lr=lr, noise=noise) | dict(claim=dict(method='', authors='ann'))
    tight = [Row(rec(lr, .1*BANDS['imagewoof',5]['s0']))
             for lr in (6.1e-3, 6.2e-3, 6.3e-3, 6.4e-3, 6.5e-3, 6.6e-3, 6.7e-3, 6.8e-3)]
    last = rec(6.9e-3, .1*BANDS['imagewoof',5]['s0'])
    for others in (rows, [*rows, *tight]):
        v = verdict(last, others)
        assert v.word=='needs audit' and 'points, where 0.77 is usual' in str(v), v


# Rulings

def test_a_ruling_answers_doubts_and_no_fault(repo):
    odd = repo.dogs.entry(.95, code=repo.code, lr=7.4e-3)
    head = repo.commit(put(odd), repo.base)
    assert check_base('main', head, repo.path).word=='needs audit'
    ruled = repo.commit(rule(odd, 'audited', 'ten fresh seeds say the same'), repo.base)
    rep = check_base(ruled, head, repo.path)
    assert rep.word=='new best' and 'audited on 2026-11-27: ten fresh seeds say the same' in str(
            rep) and 'plausible' in str(rep), rep
    for word in ('disputed','retracted'):
        rep = check_base(repo.commit(rule(odd, word), repo.base), head, repo.path)
        assert rep.word=='valid' and f'unranked: {word}' in str(rep), rep
    bad = doctored(odd, lambda r: r['runs'][0].update(correct=0))
    head = repo.commit(put(bad), repo.base)
    assert check_base(repo.commit(rule(bad, 'audited'), repo.base), head, repo.path).word=='invalid'

def test_nobody_brings_their_own_ruling(repo):
    odd = repo.dogs.entry(.95, code=repo.code, lr=7.4e-3)
    rejected(repo, repo.commit(put(odd) | rule(odd, 'audited'), repo.base), 'brings nothing but rows')
    rep = check_base('main', repo.commit(rule(odd, 'audited'), repo.base), repo.path)
    assert rep.word=='no rows' and rep.other==(f'rulings/{odd["record_id"]}.json',)

def test_a_row_that_needs_an_audit_vouches_for_nobody(repo):
    "Two rows of one pull request on images of their own: the first does not make the second's images seen"
    def own(r): r['data']['manifest_sha256'] = '5'*64
    a,b = (doctored(repo.dogs.entry(code=repo.code, lr=lr), own) for lr in (7.5e-3, 7.6e-3))
    rep = check_base('main', repo.commit(put(a) | put(b), repo.base), repo.path)
    assert [v.word for _,v in rep.items]==['needs audit']*2, rep

def test_a_board_is_judged_as_it_grew(repo, tmp_path, cli):
    "What came later is held against itself, and not against what was there; and the exit code says what the verdict is"
    work = tmp_path/'work'
    # and dated before the original
    copy_ = doctored(repo.rows[1], lambda r: (r.update(created='2026-11-20T00:00:00Z'),
                                              [c.update(train_s=c['train_s']+1) for o in r['runs']
                                               for c in o['curve']]))
    repo.git('update-ref', 'refs/heads/copied', repo.commit(put(copy_), repo.base))
    subprocess.run(['git', 'clone', '-qb', 'copied', repo.path, work], check=True, env=repo.env)
    assert cli(f'board --out {work} --force')[0]==0
    rc,out,_ = cli(f'check {work}')
    odd = [o for o in out.split('\n"') if 'needs audit:' in o]
    assert rc==3 and len(odd)==1 and copy_['record_id'] in odd[0] and 'has a rank already' in odd[0], out
    for p,raw in rule(copy_, 'audited').items(): (work/p).write_bytes(raw)
    assert cli(f'check {work}')[0]==0
    (work/'rulings'/'x.json').write_text('{}')
    rc,out,_ = cli(f'check {work}')
    assert rc==1 and 'rulings' in out

def test_new_records_are_of_todays_form(repo, rows):
    old = json.loads(next((root/'records'/'digits').rglob('*.json')).read_text())
    rejected(repo, repo.commit(put(old), repo.base), 'of schema 1, and a new record is of schema 3')
    short = doctored(repo.dogs.entry(code=repo.code, lr=7.7e-3), lambda r: r['recipe'].pop('ema'))
    assert verdict(short, rows).word!='invalid', 'one from before a field was there'
    rejected(repo, repo.commit(put(short), repo.base), 'does not say ema')

def test_one_vector_has_one_text(rows, row):
    def f(r): r['runs'][0]['preds'] = base64.b85encode(base64.b85decode(r['runs'][0]['preds']) + b'hidden').decode()
    v = verdict(doctored(row, f), rows)
    assert v.word=='invalid' and '6 bytes follow the predictions' in str(v)

def test_the_seeds_of_a_challenge_follow_from_the_merge(repo):
    base = repo.rows[0]
    def challenge(nonce, lr=None):
        fresh = repo.dogs.entry(Row(base).mean, code=repo.code, created='2026-11-26T00:00:00Z')
        seeds = sorted(challenge_seeds(base['record_id'], nonce))
        return doctored(fresh, lambda r: r.update(based_on=base['record_id'], seeds=dict(kind='challenge', nonce=nonce),
                                                  runs=[o | dict(seed=s) for o,s in zip(r['runs'], seeds)]))
    brought = landed(repo.path, repo.base, base['record_id'])
    assert brought==repo.base
    rep = check_base('main', repo.commit(put(challenge(brought)), repo.base), repo.path)
    assert rep.word=='valid' and 'challenge of' in str(rep), rep
    rep = check_base('main', repo.commit(put(challenge('a'*40)), repo.base), repo.path)
    assert rep.word=='needs audit' and 'not the commit that brought' in str(rep), rep

links = ['https://evil.example', 'www.evil.example', 'by @bob', 'a*b*c', 'kennel #1', 'GH-1', 'запад', 'שלום',
         'a\u00b2', 'dog_[x]', 'a:b']
@pytest.mark.parametrize('where',
                         [('env','device'), ('env','platform'), ('env','context'), ('env','versions','torch'),
                          ('data','edition'), ('code','version'), ('claim','method'), ('claim','authors')],
                          ids='.'.join)
def test_nothing_that_becomes_a_link(rows, row, where):
    for text in links:
        if text=='GH-1' and where[-1]=='authors': continue # somebody may be called so
        def f(r, text=text):
            inner(r, where[:-1])[where[-1]] = text
            if where==('env','device'):
                for o in r['runs']: o['device'] = text
        v = verdict(doctored(row, f), rows)
        assert v.word=='invalid', (text, v)


# Reported rows: from the base alone

def test_reported_rows_are_those_of_the_base(repo, rows, row):
    from woofbench.board.reported.history import of_board
    text,more,name = (root/'records/reported.json').read_bytes(),of_board(root),'records/reported.json'
    base = repo.commit({name:text}, repo.base)
    def table(more): return {'leaderboard.csv':to_csv([*rows, Row(row)], more).encode()}
    assert check_base(base, repo.commit(put(row) | table(more), base), repo.path).ok
    rejected(repo, repo.commit(put(row) | table(more), repo.base), 'not what the records give')
    for base_,files,why in ((base, table([]), 'not what the records give'),
                            (base, {name:text+b' '}, 'must not be changed'),
                            (base, {name:None}, 'must not be removed'),
                            (repo.base, {name:text} | table(more), 'not what the records give')):
        rep = check_base(base_, repo.commit(put(row) | files, base_), repo.path)
        assert rep.word=='invalid' and why in str(rep), (why, str(rep))
        if name in files: assert dict(rep.items)[name].word=='invalid'


# The five faults of the old board

def test_historical_faults(repo, rows, row):
    def wrong_mean(r):
        r['runs'][0]['correct'] += 40
        r['runs'][0]['curve'][-1]['correct'] += 40
    def three_are_five(r):
        r['runs'] = sorted((o | dict(seed=s, init_sha256=f'{s:x}') for o,
                            s in zip(r['runs'][:3]+r['runs'][:2], official_seeds(r['config_id']))),
                            key=lambda o: o['seed'])
    def source(r): r['track']['source'] = 'full'
    def comma(r): r['runs'][0]['correct'] = '2750,5'
    def first_edition(r):
        r['data']['n_val'] = 500
        for o in r['runs']:
            preds = [0]*390+[1]*110
            o.update(preds=encode_preds(preds, [0]*500, 10), correct=390)
            o['curve'] = [c | dict(correct=390) for c in o['curve']]
    for f,why in ((wrong_mean, 'its predictions'), (three_are_five, 'the same predictions'),
                  (comma, 'record.runs[0].correct: Expected int, got str'), (first_edition, '3929 validation images')):
        v = verdict(doctored(row, f), rows)
        assert v.word=='invalid' and why in str(v), v
    rec = doctored(row, source)
    rec = doctored(rec, lambda r: r.update(runs=sorted((o | dict(seed=s) for o,
                                                        s in zip(r['runs'], official_seeds(
                                                                config_id(Track(**r['track']), from_dict(
                                                                        r['recipe']))))), key=lambda o: o['seed'])),
                                                                        own=True)
    v = verdict(rec, rows)
    assert v.word=='invalid' and 'edition imagewoof2, not imagewoof2-320' in str(v), v

@pytest.mark.parametrize('old,new',
                         [('0.69', '0.79'), (',5,0.', ',3,0.'), ('128,320', '128,full'), ('0.69', '"0,69"'),
                          (',3929,', ',500,')], ids=['mean','n','source','comma','k of 500'])
def test_historical_faults_in_the_table(repo, row, old, new):
    table = repo.git('show', 'main:leaderboard.csv').decode()
    assert old in table
    rejected(repo, repo.commit(put(row) | {'leaderboard.csv':table.replace(old, new, 1).encode()}, repo.base),
             'not what the records give')


# Two at once

def test_parallel_submissions(repo, row, tmp_path, cli):
    "Two rows of one cell merge in either order, and the table is the same"
    a,b = repo.commit(put(row), repo.base),repo.commit(put(repo.dogs.entry(code=repo.code, lr=6e-3)), repo.base)
    tables = []
    for name,(x,y) in dict(ab=(a,b), ba=(b,a)).items():
        out = tmp_path/name
        repo.git('update-ref', f'refs/heads/{name}', x)
        repo.git('update-ref', f'refs/heads/{name}-2', y)
        subprocess.run(['git', 'clone', '-qb', name, repo.path, out], check=True, env=repo.env)
        subprocess.run(['git', '-C', out, 'merge', '-q', '--no-edit', f'origin/{name}-2'], check=True, env=repo.env)
        assert cli(f'board --out {out}')[0]==0
        tables.append((out/'leaderboard.csv').read_bytes())
        assert len(load_rows(out)[0])==5 and check_path(out).ok
    assert tables[0]==tables[1]!=repo.git('show', 'main:leaderboard.csv')


# Folders

def test_folders(repo, row, tmp_path):
    "What a folder may hold that git would not have brought"
    def fresh(name, table=True):
        out = tmp_path/name
        for p,raw in {k:v for o in repo.rows for k,v in put(o).items()}.items():
            (out/p).parent.mkdir(parents=True, exist_ok=True)
            (out/p).write_bytes(raw)
        (out/'leaderboard.csv').write_bytes(repo.git('show', 'main:leaderboard.csv'))
        return out
    assert check_path(fresh('good')).ok
    mine = CELL+'/'+'0'*16+'.json'
    cases = dict(link=lambda o: (o/mine).symlink_to('/dev/zero'),
                 folder=lambda o: (o/'records'/'evil').symlink_to('/etc'),
                 large=lambda o: (o/mine).write_bytes(b'1'*3_000_000), pipe=lambda o: os.mkfifo(o/mine),
                 second=lambda o: shutil.copytree(o/'records', o/'copy')
                 and shutil.move(o/'copy', o/'records'/'records'),
                 other=lambda o: (o/'records'/'conftest.py').write_text('x'))
    for name,f in cases.items():
        out = fresh(name)
        f(out)
        rep = check_path(out)
        assert rep.word=='invalid' and len(load_rows(out)[0])==3, (name, rep)


# Anything at all

extreme = [None, True, False, 0, 1, -1, 2, 500, 3929, 2**31, 2**53, 10**16, -0., 0., .5, 1e-300, 1e308, float('inf'),
           float('nan'), '', 'x', '0', 'relu', '=1', '\ud800', 'a'*400, 'ä', [], [1], [[]], ['relu'], {}, {'a':1},
           [None]*3]

def places(o, at=()):
    "All paths into a record, the deepest last"
    yield at
    for k in (o if isinstance(o, dict) else range(min(len(o), 3)) if isinstance(o, list) else ()):
        yield from places(o[k], (*at, k))

def mutate(rec, op, where, value, k):
    *up,last = where
    for o in up: rec = rec[o]
    old = rec[last]
    if op=='drop': del rec[last]
    elif op=='rename' and isinstance(rec, dict): rec[f'{last}{value}'[:40]] = rec.pop(last)
    elif op=='count' and type(old) in (int,float): rec[last] = old+(k%7-3)
    elif op=='scale' and type(old) in (int,float): rec[last] = old*(k%5)
    elif op=='splice' and isinstance(old, str): rec[last] = old[:k%(len(old)+1)] + str(value) + old[k%(len(old)+1):]
    elif op=='flip' and isinstance(old, str) and old:
        rec[last] = old[:k%len(old)] + chr(33+(ord(old[k%len(old)])+k)%90) + old[k%len(old)+1:]
    elif op=='repeat' and isinstance(old, list): rec[last] = old + old[:k%3+1]
    elif op=='swap' and isinstance(old, list): rec[last] = old[::-1]
    elif op=='preds' and isinstance(rec, dict) and isinstance(rec.get('preds'), str):
        rec['preds'] = flipped(rec['preds'], k)
    else: rec[last] = value

def flipped(text, k):
    "One prediction changed"
    try: v = bytearray(zlib.decompress(base64.b85decode(text)))
    except (ValueError, zlib.error): return text
    if v: v[k%len(v)] = (v[k%len(v)]+1+k%9)%10
    return base64.b85encode(zlib.compress(bytes(v), 9)).decode()

def recount(rec):
    "Let the counts say what the predictions do, so that what comes after them is reached"
    try:
        for r in rec['runs']:
            r['correct'] = r['curve'][-1]['correct'] = zlib.decompress(base64.b85decode(r['preds'])).count(0)
    except (KeyError, IndexError, TypeError, ValueError, zlib.error): pass

def honest(raw, place):
    "Counted and hashed again, by other code: does the file agree with itself?"
    rec = json.loads(raw)
    text = json.dumps({k:v for k,v in rec.items() if k not in ('record_id','note','claim')}, sort_keys=True,
                      separators=(',',':'))
    assert hashlib.sha256(b'woofbench/record/1|' + text.encode()).hexdigest()[:16]==rec['record_id']==Path(place).stem
    assert Path(place)==record_path(rec) and rec['config_id']==config_id(Track(**rec['track']),
            from_dict(rec['recipe']))
    for r in rec['runs']:
        v = zlib.decompress(base64.b85decode(r['preds']))
        assert len(v)==rec['data'][
                'n_val'] and v.count(0)==r['correct']==r['curve'][-1]['correct'] and max(v)<len(rec['data']['classes'])
        assert len(r['curve'])==rec['track']['epochs'] or r['diverged']
        assert all(math.isfinite(o[k]) for o in r['curve'] for k in ('train_s','eval_s'))
    assert len({r['seed'] for r in rec['runs']})==len(rec['runs'])

ops = st.sampled_from('drop rename count count scale scale splice flip repeat swap preds preds preds set set'.split())
mutations = st.lists(st.tuples(ops, st.integers(0, 2**20), st.sampled_from(extreme), st.integers(0, 2**20)), min_size=1,
                     max_size=3)
scars = st.one_of(st.just([]), st.lists(st.tuples(st.sampled_from(('cut','bit','insert','join')), st.integers(0, 2**20),
                                                  st.integers(0, 255)), max_size=1))
seen = {}

def scar(raw, op, at, k):
    at %= len(raw)+1
    if op=='cut': return raw[:at]
    if op=='insert': return raw[:at] + bytes([k]) + raw[at:]
    if op=='join': return raw + raw[at:]
    return raw[:at] + bytes([raw[at]^(1<<k%8)]) + raw[at+1:] if at<len(raw) else raw

@pytest.fixture(scope='module')
def material(repo, rows):
    "Records to start from, a real one among them"
    digits = json.loads(next((root/'records'/'digits').rglob('*.json')).read_text())
    recs = [digits, repo.dogs.entry(code=repo.code, lr=5e-3), repo.dogs.entry(seeds=range(2), code=repo.code, lr=4e-3)]
    recs = [json.loads(to_bytes(o)) for o in recs]
    return [(o, sorted(filter(None, places(o)), key=str)) for o in recs]

@settings(max_examples=2000, derandomize=True, database=None, deadline=timedelta(seconds=20),
          suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2), mutations, st.booleans(), scars)
def test_fuzz(material, rows, which, muts, mend, wounds):
    rec,where = material[which]
    def f(r):
        for op,i,value,k in muts:
            try: mutate(r, op, where[i%len(where)], value, k)
            # an earlier one took the place away
            except (KeyError, IndexError, TypeError, AttributeError, OverflowError): pass
        if mend: recount(r)
    try: new = doctored(rec, f, own=mend)
    except Exception:
        new = json.loads(json.dumps(rec))
        f(new) # nothing that has an id
    try: place = record_path(new).as_posix()
    except Exception: place = record_path(rec).as_posix()
    raw = json.dumps(new, sort_keys=True, indent=1).encode()+b'\n'
    for o in wounds: raw = scar(raw, *o)
    v = verdict(raw, rows, place)
    seen[v.word] = seen.get(v.word, 0)+1
    if v.word!='invalid': honest(raw, place)

def test_fuzz_went_deep():
    "It was no fuzzing of the first line alone"
    print(seen)
    assert sum(seen.values())>=2000 and seen['invalid']>500 and seen.get('valid', 0)+seen.get('needs audit',
            0)>100, seen


# Nothing at all

@pytest.fixture(scope='module')
def tweak():
    dogs = Dogs(1)
    return lru_cache(None)(lambda i: dogs.entry(lr=(1000+i)*1e-5))

@pytest.mark.parametrize('version,n', [pytest.param(2, 1000, marks=pytest.mark.slow),
                                       pytest.param(RULES, 1000, marks=pytest.mark.slow), (RULES, 200)])
def test_null_submissions(tweak, version, n, capsys):
    """A thousand recipes that change nothing (200 for every change), each beside another one, and a board that grows:
    how many are called a record, how many odd?"""
    recs = [tweak(i) | dict(rules=version) for i in range(n)]
    rows = [Row(o) for o in recs]
    words = [judge(o, [rows[(i+1)%n]]).word for i,o in enumerate(recs)]
    on_board = [judge(o, rows[:i]).word for i,o in enumerate(recs[:max(100, n*3//10)])][1:]
    rate = {name:{w:got.count(w) for w in WORDS} for name,got in dict(pairs=words, board=on_board).items()}
    with capsys.disabled(): print(f'\nnull submissions, version {version} of the rules: {rate}')
    for o in (words, on_board):
        assert o.count('new best')<=.04*len(o)+1 and 'invalid' not in o
        assert o.count('needs audit')<=max(3, .01*n)


# Large boards

def work(monkeypatch, rows):
    """How often rows are compared, and predictions decoded, while a board of `rows` is judged as it grows and its
    table is made"""
    from woofbench.board import audit_flags, replications, row, rules
    from woofbench.board.row import Board
    done = dict(between=0, copies=0, decode_bytes=0, replication=0)
    def count(module, name):
        f = getattr(module, name)
        def counted(*args, **kw):
            done[name] += 1
            return f(*args, **kw)
        monkeypatch.setattr(module, name, counted)
    with monkeypatch.context() as monkeypatch:
        for module,name in ((audit_flags,'between'), (audit_flags,'copies'), (rules,'copies'), (row,'decode_bytes'),
                            (replications,'replication'), (audit_flags,'replication')):
            count(module, name)
        grown = Board()
        for o in rows:
            judge(o.record, grown)
            grown.append(o)
        to_csv(rows)
    return done

@pytest.mark.slow
def test_work_grows_with_the_rows_and_not_with_their_square(monkeypatch):
    """Twice as many rows, of which one in eight repeats another one and one in eight has its errors put right, are
    twice the work"""
    def board(n):
        dogs,recs = Dogs(3),[]
        for i in range(n):
            recs.append(dogs.entry(lr=(1000+i)*1e-5))
            if i%8==1:
                recs.append(doctored(dogs.entry(lr=(1000+i)*1e-5, created='2026-11-26T00:00:00Z'),
                                     lambda r: r.update(based_on=recs[-1]['record_id'])))
            if i%8==5:
                recs.append(with_preds(dogs.entry(lr=(5000+i)*1e-5),
                                       [[0 if j%20==0 else p for j,p in enumerate(o)] for o in preds_of(recs[-1])]))
        return [Row(o) for o in recs]
    small,large = (work(monkeypatch, board(n)) for n in (40,80))
    n = len(board(80))
    assert small.pop('between') and 0<large.pop('between')<=n*(n-1)/2, 'two rows are compared once'
    assert all(small.values()) and all(large[k]<=2.2*small[k] for k in small), (small, large)
