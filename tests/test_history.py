"Reported rows: the shipped file is in order, faults are found, and nothing reported gets among measured rows"
import copy, csv, io, json, re, shutil
from collections import Counter
from types import SimpleNamespace
import pytest
from msgspec.structs import replace
from hypothesis import given, strategies as st
from audit import comparable, faults, fits, path, reported, rows
from conftest import root
from woofbench.board.reported.history import ASK, FIRST, Reported, best_reported, of_board, parse_reported, read_accuracy, reported_md, seal # noqa: E501
from woofbench.board.row import columns
from woofbench.board.table import to_csv, to_md, update_csv
from woofbench.files import digest
from woofbench.registry import BadInput
from woofbench.data.track import datasets, make_track

text = path.read_text(encoding='utf-8')
doc = json.loads(text)


# The file

def test_file_is_sealed(): assert seal(doc)==text

def test_ids_are_hashes_of_the_rest():
    for o in doc['rows']: assert o['id']==digest('reported', {k:v for k,v in o.items() if k not in ('id','findings')})
    assert len({o['id'] for o in doc['rows']})==len(doc['rows'])

def test_rows_are_sorted():
    key = [(o.dataset, o.edition, o.noise, o.size, o.epochs, o.added, o.id) for o in rows]
    assert key==sorted(key)

def test_the_page_of_today_is_whole():
    "12 cells in each of its five tables"
    page = [(o.dataset, o.noise, o.size, o.epochs) for o in rows if o.state=='page']
    cells = {(s,e) for s in (128,192,256) for e in (5,20,80,200)}
    for d in (('imagenette',0), ('imagenette',5), ('imagenette',50), ('imagewoof',0), ('imagewang',0)):
        assert {o[2:] for o in page if o[:2]==d}==cells
    assert len(page)==60

def test_links_are_https_and_evidence_names_a_commit():
    for o in rows:
        assert re.fullmatch(r'https://[\w./%+~-]+', o.link)
        if o.evidence: assert re.fullmatch(r'https://[\w./%+~-]+/[0-9a-f]{40}/[\w./%+~-]+', o.evidence)

def test_every_number_parses():
    for o in rows:
        v,unit,_ = read_accuracy(o.accuracy)
        assert 0<v<1 and 0<unit<=.01 and float(v)==o.fraction
    assert {o.accuracy for o in rows if ',' in o.accuracy}=={'78,84%','88,58%','73,58%','85,22%'}
    assert read_accuracy('78,84%')[0]==read_accuracy('78.84%')[0]

def test_every_logged_run_is_a_count():
    seen = [o for o in rows if o.logged]
    assert len(seen)>80
    for o in seen:
        assert len(o.correct)==len(o.logged)
        for k,a in zip(o.correct, o.logged): assert abs(k/o.n_val-float(a))<6e-7

def test_first_edition_has_500_images():
    old = [o for o in rows if o.edition==1]
    assert old and all(o.n_val==FIRST and o.status=='reported: first edition' for o in old)
    assert all(o.n_val==datasets[o.dataset].n_val for o in rows if o.edition==2)

def test_the_findings_are_those_of_the_audit():
    assert [list(o.findings) for o in rows]==[faults(o) for o in rows] and sum(bool(o.findings) for o in rows)>20

def test_the_table_of_bests_is_that_of_the_file():
    best = {}
    for o in rows:
        if o.edition==2 and o.state in ('page','replaced') and not o.barred:
            cell = o.dataset, o.size, o.epochs, o.noise
            best[cell] = max(o.fraction, best.get(cell, 0))
    assert len(best)==60 and {k:best_reported(*k) for k in best}==best
    assert best_reported('digits', 32, 5) is None and best_reported('imagewoof', 128, 6) is None

def _other(**kw):
    o = copy.deepcopy(doc)
    o['rows'][0] |= kw
    return o

@pytest.mark.parametrize('kw', [dict(link='http://github.com/a'), dict(link='https://a b'), dict(link='https://a/x)'),
                                dict(link='javascript:1'), dict(method='=1+1'), dict(method='a\nb'), dict(method='-x'),
    dict(state='ranked'), dict(edition=3), dict(dataset='no_such_cats'), dict(noise=7), dict(protocol='none such'),
    dict(evidence='https://github.com/a/b/blob/main/c', logged=['0.5']),
    dict(logged=['0.5'], evidence=None), dict(size='128'), dict(accuracy='NA'), dict(added='today'), dict(commit='abc'),
    dict(fancy=1), dict(n=-1)], ids=str)
def test_bad_rows_are_refused(kw):
    bad = _other(**kw)
    try: bad = seal(bad)
    except (BadInput, TypeError): bad = json.dumps(bad)
    with pytest.raises(BadInput) as e: parse_reported(bad.encode())
    assert 'what seal gives' not in str(e.value) or 'accuracy' in kw

@pytest.mark.parametrize('change',
                         [lambda s: s.replace('92.50%', '92.51%'), lambda s: s+' ', lambda s: s[:-9], lambda s: '',
                          lambda s: '[]', lambda s: s.replace('"schema": 1', '"schema": NaN'),
    lambda s: s.replace('"n": null', '"n": null, "n": null', 1),
    lambda s: json.dumps(json.loads(s) | dict(rows=json.loads(s)['rows'][::-1]), sort_keys=True, indent=1)+'\n'])
def test_other_texts_are_refused(change):
    with pytest.raises(BadInput): parse_reported(change(text).encode())


# Numbers

@given(st.integers(0, 5*3929), st.sampled_from((1,3,5)), st.sampled_from((500,3925,3929)), st.integers(2, 5))
def test_no_honest_number_is_impossible(k, n, n_val, digits):
    total = n*n_val
    k = k%(total+1)
    logged = round(k/total, 6)
    assert fits(f'{100*logged:.{digits-2}f}%', total)=='rounded'
    assert fits(f'{k/total:.6f}', total)=='rounded'

def test_single_runs_of_the_wrong_edition_are_seen():
    "All but two counts of 500 images are no counts of 3929, at six decimals"
    assert sum(bool(fits(f'{k/500:.6f}', 3929)) for k in range(1, 500))==2
    assert all(fits(f'{k/500:.6f}', 500) for k in range(501))

@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(s):
    try: v,unit,std = read_accuracy(s)
    except BadInput: return
    assert 0<=v<=1 and unit>0


# The five faults, on the rows where they are

def row(*cell, accuracy, state='page'):
    return next(o for o in rows if (o.dataset,o.size,o.epochs)==cell and o.accuracy==accuracy and o.state==state)

def test_wrong_mean():
    r = row('imagenette', 192, 20, accuracy='92.50%')
    assert faults(r)==['92.50% is not what the runs average, 92.70 %']
    assert not faults(replace(r, accuracy='92.70%'))

def test_three_runs_called_five_and_a_comma():
    r = row('imagewoof', 256, 5, accuracy='78,84%')
    assert faults(r)==['78,84% has a comma for a decimal point', '5 runs are claimed, 3 are shown']
    assert not faults(replace(r, accuracy='78.84%', n=3))

def test_wrong_source():
    r = row('imagewoof', 128, 5, accuracy='76.61%')
    assert faults(r)==["made from full images, and the cell's are 320"]
    assert not faults(replace(r, protocol=r.protocol | dict(sources={'128':'320'})))

def test_500_images_under_the_new_name():
    r = replace(GOOD, accuracy='75.56%', n=5, protocol=None,
                logged=('0.760000','0.768000','0.762000','0.746000','0.742000'))
    assert faults(r)==['no whole number of correct answers of 3929 gives 0.760000; '
                       'all runs fit the 500 of the first edition']
    assert not faults(replace(r, edition=1))

def test_impossible_number():
    assert faults(replace(GOOD, dataset='imagewang', size=256, epochs=200, accuracy='71.78%', n=1, protocol=None,
                          logged=None))==['no whole number of correct answers of 3929 gives 71.78%']

def test_truncation_is_named():
    assert '76.87% is cut off: the runs average 76.88 %' in faults(row('imagewoof', 256, 5, accuracy='76.87%',
            state='replaced'))

def test_faults_are_pure():
    before = [repr(o) for o in rows]
    assert [faults(o) for o in rows]==[faults(o) for o in rows] and [repr(o) for o in rows]==before


# Comparable only where the protocol allows it

def mine(*args, n=5, known=True, val_resize='squish'):
    return SimpleNamespace(track=make_track(*args), data=dict(known=known, edition='part of imagewoof2'), n=n,
                           val_resize=val_resize)

GOOD = row('imagewoof', 128, 5, accuracy='73.37%', state='replaced')

def test_one_may_be_compared(): assert comparable(mine('imagewoof', 128, 5), GOOD)[0] is True

@pytest.mark.parametrize('kw,why',
                         [(dict(dataset='imagenette'),'another dataset'), (dict(size=192),'another size'),
                          (dict(epochs=20),'another epochs'), (dict(noise=5),'another noise'),
                          (dict(edition=1),'first edition'),
    (dict(state='unmerged'),'never was on the page'), (dict(barred='cheated'),'cheated'),
    (dict(protocol=None),'which images'), (dict(protocol=GOOD.protocol | dict(sources={'128':'full'})),'from full'),
    (dict(protocol=GOOD.protocol | dict(px={'128':112})),'not trained at'),
    (dict(protocol=GOOD.protocol | dict(val_resize='shorter+32')),'by shorter+32, not by squish'),
    (dict(logged=None, n=None),'how many runs'),
    (dict(protocol=GOOD.protocol | dict(val_resize=None)),'became squares'),
    (dict(state='elsewhere'),'never was on the page'), (dict(logged=None, n=4),'4 of 5'),
    (dict(logged=GOOD.logged[:3]),'3 of 5'), (dict(accuracy='75.00%'),'another mean'),
    (dict(logged=None),'how much its runs differ'), (dict(protocol=GOOD.protocol | dict(last=None)),'last epoch'),
    (dict(protocol=GOOD.protocol | dict(tta=None)),'test-time')], ids=str)
def test_obstacles(kw, why):
    ok,said = comparable(mine('imagewoof', 128, 5), replace(GOOD, **kw))
    assert ok is False and why in said

def test_another_validation_on_this_side():
    assert comparable(mine('imagewoof', 128, 5, val_resize='shorter32'), GOOD)==(False,
            'validated on images by squish, not by shorter+32')

def test_obstacles_on_this_side():
    assert comparable(mine('imagewoof', 128, 5, n=4), GOOD)==(False, '4 of 5 runs on this side')
    assert 'is not known' in comparable(mine('imagewoof', 128, 5, known=False), GOOD)[1]


# Boards

@pytest.fixture
def board(tmp_path):
    "A copy of a real row's record, and of the file that asks for reported rows"
    for o in [*sorted((root/'records').rglob('*/*.json'))[:1], root/ASK]:
        to = tmp_path/o.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(o, to)
    return tmp_path

def lines(path): return list(csv.DictReader(io.StringIO(path.read_text(encoding='utf-8'))))

def test_rows_round_trip_through_the_csv(board):
    got = lines(update_csv(board, more=of_board(board)))
    assert [o['status'].startswith('reported') for o in got]==[False]+[True]*len(rows), 'measured first, then reported'
    for o,r in zip(got[1:], rows):
        line = r.line()
        assert set(line)<=set(columns) and {k:v for k,v in o.items() if v}=={k:str(v) for k,v in line.items() if v!=''}
        assert (o['id'], o['recipe'], o['dataset'], int(o['size']))==(r.id, r.method, r.dataset, r.size)
        assert abs(float(o['mean'])-r.fraction)<=5.1e-6 and o['recipe'][0] not in '=+-@\t\r'

def test_a_board_of_ones_own_has_none(board, cli):
    (board/ASK).unlink()
    assert of_board(board)==[]
    rc,out,_ = cli(f'board --out {board}')
    assert rc==0 and len(lines(board/'leaderboard.csv'))==1 and 'reported' not in (board/'leaderboard.csv').read_text()

def test_board_command_follows_the_file(board, cli):
    assert cli(f'board --out {board}')[0]==0
    assert len(lines(board/'leaderboard.csv'))==1+len(rows)
    assert cli(f'board --check --out {board}')[0]==0
    (board/ASK).unlink()
    assert cli(f'board --check --out {board}')[0]==2
    assert cli(f'board --out {board}')[0]==2, 'lines that no record gives are not dropped unasked'
    assert cli(f'board --force --out {board}')[0]==0 and len(lines(board/'leaderboard.csv'))==1

def test_a_new_row_keeps_them_apart(board):
    "What a run does at its end, on a board that asks"
    from types import SimpleNamespace
    from woofbench.board.record.record import read_record
    from woofbench.commands.publish import _publish, _write
    old = next(board.rglob('records/*/*/*.json'))
    rec = read_record(old)
    old.unlink()
    tidied = []
    _publish(_write(rec, board), board, SimpleNamespace(tidy=tidied.append), None)
    assert old.is_file() and tidied==[rec['runs']]
    assert [o['id'] for o in lines(board/'leaderboard.csv')]==[rec['record_id'], *(o.id for o in rows)]

def test_every_row_is_in_one_table():
    "Headings tell datasets, noise, editions and times apart"
    got = {head:t.count('\n| ')-2 for head,t in sections(reported_md(rows)).items()} # less head and rule
    def head(o):
        if o.state=='elsewhere': return f'{o.dataset}, printed elsewhere (reported)'
        noise,old = f', {o.noise} % of the labels changed'*bool(
                o.noise), ', first edition with 500 validation images' if o.edition==1 else ', earlier rows'
        return f'{o.dataset}{noise}{old*(o.state!="page")} (reported)'
    assert got==Counter(map(head, rows))

def test_csv_is_pure():
    assert to_csv([], rows)==to_csv([], reported()) and to_csv([])==to_csv([], rows).splitlines()[0]+'\n'

def sections(md): return {m[1]:m[2] for m in re.finditer(r'^### ([^\n]+)\n(.*?)(?=^#|\Z)', md, re.M|re.S)}

def test_no_measured_table_has_a_reported_row(board):
    measured = to_md(board)
    assert not [r.id for r in rows if r.id in measured or r.link in measured]
    page = (root/'docs'/'board.md').read_text(encoding='utf-8')
    ours,theirs = page.split('## Reported, never re-run here')
    assert not [r.link for r in rows if r.link in ours] and '(reported)' not in ours
    for head,table in sections(theirs).items(): assert head.endswith('(reported)') and 'records/' not in table
    assert all(r.link in theirs for r in rows)

def test_text_is_escaped():
    seen = {k:getattr(rows[0], k) for k in (*Reported.__struct_fields__, 'pinned', 'source')}
    evil = SimpleNamespace(
            **seen | dict(method='a <img src=x onerror=alert(1)> | **b** [c](javascript:d) `e` ~~f~~ &lt;',
                          notes=['<script>|_x_']))
    with pytest.raises(ValueError, match='text that may be shown'): replace(rows[0], method=evil.method)
    md = reported_md([evil])
    table = md.split('### ')[1]
    assert '<img' not in md and '<script' not in md and '[c](' not in md and '&amp;lt;' in md and r'\*\*b\*\*' in md and r'\~\~f\~\~' in md # noqa: E501
    width = [len(re.findall(r'(?<!\\)\|', o)) for o in table.splitlines() if o.startswith('|')]
    assert len(set(width))==1

def test_fields_are_those_of_the_file():
    assert set(Reported.__struct_fields__)==set(doc['rows'][0])

def test_a_broken_file_is_refused_in_a_line(board, cli):
    assert cli(f'board --out {board}')[0]==0
    (board/ASK).write_text(text.replace('92.50%', '92.51%'))
    for line in (f'board --check --out {board}', f'check {board}'):
        rc,_,err = cli(line)
        assert rc==2 and 'not what seal gives' in err

def test_it_is_no_record_for_the_check(board, cli):
    assert cli(f'board --out {board}')[0]==0
    for o in (board, board/'records'): assert 'reported.json' not in cli(f'check {o}')[1]
