"Rows run again: the four answers, what is refused, and that nothing of the original is handed back"
import csv, json, shutil
from dataclasses import replace
import pytest
import torch
from conftest import real_data, root, tiny_dataset
from woofbench.board.row import Row, differences
from woofbench.board.table import load_rows, to_md
from woofbench.board.record.preds import decode_preds, encode_preds
from woofbench.board.record.record import Made, make_record, record_id, to_bytes, write_record
from woofbench.board.replications import first_epoch, replication, replication_status, replications, tolerance
from woofbench.commands.reproduce import _seeds_for, judge_challenge, original, other_code, plan_of, reproduce
from woofbench.commands.run import run
from woofbench.board.record.strict import plain
from woofbench.board.record.seeds import challenge_seeds, official_seeds


def hush(line): pass

def preds_of(rec, shift):
    "The record with `shift` more images right in every seed, as somebody would have it who knows how ids are made"
    rec = json.loads(json.dumps(plain(rec)))
    n,c = rec['data']['n_val'],len(rec['data']['classes'])
    for r in rec['runs']:
        d,left = decode_preds(r['preds'], n),shift
        for i,o in enumerate(d):
            if left and (o>0)==(left>0): d[i],left = int(left<0),left-(1 if left>0 else -1)
        assert not left
        r |= dict(preds=encode_preds(d, [0]*n, c), correct=d.count(0))
        r['curve'][-1]['correct'] = r['correct']
    return sealed(rec)

def sealed(rec): return rec | dict(record_id=record_id(rec))

@pytest.fixture(scope='module')
def done(tmp_path_factory):
    "A row of five seeds, and the same five again, really trained"
    out = tmp_path_factory.mktemp('board')
    row = run('digits', size=16, epochs=1, seeds=5, out=out, say=hush)
    # half-finished seeds of the original, which are not to be handed back as a repetition
    folder = out/'.woofbench'/row.track.cell/f'{row.record["config_id"]}-{row.record["env"]["context"]}'
    folder.mkdir(parents=True)
    (folder/'seed-0.json').write_text(json.dumps(preds_of(row.record, -3)['runs'][0]))
    said = []
    return out, row, reproduce(row.id[:8], out=out, say=said.append), said

@pytest.fixture
def board(done, tmp_path): return shutil.copytree(done[0], tmp_path/'board')

@pytest.fixture
def replay(done, monkeypatch):
    "The five seeds that were trained once, in place of training them again"
    calls = []
    def f(job, seeds, out, machine, purpose, again, say):
        calls.append((seeds, purpose))
        return done[2].row
    monkeypatch.setattr('woofbench.commands.reproduce.train_row', f)
    return calls


# The four answers

def test_same_machine_same_seeds_are_identical(done):
    out,row,res,said = done
    assert res.word=='identical' and res.facts['same']==dict.fromkeys(range(5), True) and res.facts['alike']
    new = res.row
    assert new.based_on==row.id!=new.id and new.record['config_id']==row.record['config_id'] and new.path.is_file()
    assert len(load_rows(out)[0])==2 and replication_status(row, load_rows(out)[0])=='replayed by 1'
    assert sum('seed ' in o for o in said)==5 and not any('continuing' in o or 'there already' in o for o in said)

def test_a_row_is_trained_with_its_own_number_of_threads(done, tmp_path):
    "Another number adds in another order, and gives other results; afterwards this process has its own again"
    said,row = [],done[1]
    torch.set_num_threads(2)
    try:
        res = reproduce(row, k=1, out=tmp_path, say=said.append)
        assert torch.get_num_threads()==2
    finally: torch.set_num_threads(1)
    assert res.word=='identical' and res.row.record['env']['threads']==row.record['env']['threads']==1
    assert not any('threads' in o for o in said)

def test_doctored_row_is_inconsistent(done, tmp_path, replay, cli):
    row = done[1]
    bad = preds_of(row.record, -round(3*row.std*360+.5))
    write_record(tmp_path, bad)
    rc,out,err = cli(f'reproduce {bad["record_id"]} --out {tmp_path}')
    assert rc==1 and 'inconsistent' in out and not err
    assert replication(Row(bad), done[2].row).word=='inconsistent'
    assert replication(row, Row(bad)).word=='inconsistent', 'nor does a row hold that is so much above what is found'

@pytest.mark.skipif(not real_data, reason='takes Imagewoof in $WOOFBENCH_DATA, and two minutes')
def test_the_committed_row_of_real_dogs(tmp_path):
    "Two of its five official seeds, trained again; and a copy that claims 94 images more in every seed"
    shutil.copytree(root/'records'/'imagewoof'/'32-s192-e5', tmp_path/'records'/'imagewoof'/'32-s192-e5')
    res = reproduce('ed608b5b', k=2, data=real_data, out=tmp_path, say=hush)
    assert res.word in ('identical','consistent'), res
    doctored = Row(preds_of(original('ed608b5b', tmp_path).record, 94))
    assert replication(doctored, res.row).word=='inconsistent'

def test_one_run_without_a_band_cannot_tell(done, tmp_path, cli):
    """Really trained, in a folder of its own, by another number of threads than the record's: so that it is not
    identical"""
    path = done[1].path
    rec = sealed(json.loads(path.read_text()) | dict(env=done[1].record['env'] | dict(device='abacus', threads=7)))
    rec['runs'] = [r | dict(device='abacus') for r in preds_of(rec, -1)['runs']]
    path = write_record(tmp_path/'theirs', sealed(rec))
    rc,out,err = cli(f'reproduce {path} --k 1 --out {tmp_path/"fresh"}')
    assert rc==3 and 'cannot tell' in out and 'too few runs' in out and not err
    assert 'abacus' in out and 'threads' in out, 'differences of the environment are shown first'
    row, = load_rows(tmp_path/'fresh')[0]
    assert row.based_on==original(path).id

def test_some_seeds_identical_is_a_finding(done):
    row,new = done[1],done[2].row
    bad = json.loads(json.dumps(plain(row.record)))
    bad['runs'][2] = preds_of(row.record, 1)['runs'][2]
    res = replication(Row(sealed(bad)), new)
    assert res.word=='cannot tell' and 'seed 2' in res.why
    bad['env']['device'] = 'abacus'
    assert replication(Row(sealed(bad)), new).word=='consistent'

def test_quick(done, board, cli):
    rc,out,_ = cli(f'reproduce {done[1].id} --quick --out {board}')
    assert rc==0 and 'identical: first epoch of seed 0' in out and len(load_rows(board)[0])==2, 'it leaves no record'

@pytest.mark.parametrize('k,by,word',
                         (('train_loss', 0, 'identical'), ('train_loss', 1e-6, 'consistent'),
                          ('train_loss', 1., 'inconsistent'), ('valid_loss', None, 'inconsistent')))
def test_first_epochs(done, k, by, word):
    row = done[1]
    new = dict(row.runs[0]['curve'][0])
    new[k] = None if by is None else new[k]+by
    assert first_epoch(row, 0, new).word==word

def test_first_epoch_of_a_lone_seed_cannot_tell(done):
    one = Row(done[1].record | dict(runs=done[1].runs[:1]))
    assert first_epoch(one, 0, one.runs[0]['curve'][0] | dict(train_loss=1.)).word=='cannot tell'

@pytest.mark.parametrize('sched', ('flat_cos','one_cycle'))
def test_quick_is_the_first_of_all_epochs(sched, tmp_path):
    "Not an epoch with a schedule of its own"
    row = run('digits', epochs=3, seeds=1, sched=sched, arch='xresnet10_tiny', size=16, bs=128, out=tmp_path, say=hush)
    assert reproduce(row.id, quick=True, out=tmp_path, say=hush).word=='identical'

def test_nothing_is_known_of_the_noise():
    assert tolerance([.5], [.5])['tol'] is None and tolerance([.5,.5], [.5,.5])['tol'] is None
    assert tolerance([.5], [.6], (.01, 10))['df']==10


# Seeds

def test_which_seeds(done):
    row = done[1]
    assert _seeds_for(row, 3)==[0,1,2] and _seeds_for(row, 9)==[0,1,2,3,4]
    own = official_seeds(row.record['config_id'])
    runs = [r | dict(seed=s) for r,s in zip(row.runs, sorted(own))]
    official = Row(sealed(row.record | dict(runs=runs, seeds=dict(kind='official', nonce=None))))
    assert _seeds_for(official, 3)==own[:3], 'as the hash has them, so that they are official again'

def test_no_flag_chooses_the_seeds(done, board, refused, replay):
    for o in ('fresh','mine','record'):
        assert "unknown flag '--seeds'" in refused(f'reproduce {done[1].id} --seeds {o} --out {board}')
    assert not replay


# Challenges

def test_challenge(done, board, cli):
    rc,out,err = cli(f'challenge {done[1].id} --nonce 331328e --k 4 --out {board}')
    assert rc==0 and 'the claim holds' in out and 'consistent' in out, out+err
    new = next(o for o in load_rows(board)[0] if o.kind=='challenge')
    assert new.based_on==done[1].id and [r['seed'] for r in new.runs]==sorted(challenge_seeds(done[1].id, '331328e', 4))
    said = f'reproduced by 1, replayed by 1, fresh seeds {100*new.mean:.2f} % (n=4)'
    assert replication_status(done[1], load_rows(board)[0])==said and said in to_md(board)
    line = next(o for o in csv.DictReader((board/'leaderboard.csv').open()) if o['id']==done[1].id)
    assert (line['fresh_n'],line['fresh_mean'],line['status'])==('4',f'{new.mean:.5f}','practice')

def test_claim_stands_or_falls_with_the_challenge(done):
    row,new = done[1],done[2].row
    def other(shift, **kw):
        from woofbench.train.recipe import from_dict
        rec,o = preds_of(row.record, shift),from_dict(row.record['recipe']).but(**kw)
        return Row(make_record(row.track, o, rec['data'], rec['runs'],
                               Made(rec['code'] | dict(dirty=False), rec['env'], rec['cost'], rec['created'])))
    low,high = other(-40, lr=1e-3),other(1, lr=3e-3)
    assert judge_challenge(row, new, [row, new]).word=='holds'
    res = judge_challenge(row, new, [row, new, low])
    assert res.word=='holds' and low.id in res.why
    res = judge_challenge(row, new, [row, new, low, high])
    assert res.word=='does not hold' and high.id in res.why, 'the best of the others has to be beaten'
    one = Row(new.record | dict(runs=new.runs[:1]))
    assert judge_challenge(row, one, [row, low]).word=='cannot tell'

def test_only_repeats_of_the_same_configuration_count(done):
    row,new = done[1],done[2].row
    wrong = Row(new.record | dict(config_id='0'*16)),Row(new.record
                                                         | dict(data=new.data | dict(manifest_sha256='0'*64)))
    assert [o.word for o in replications(row, [row, new, *wrong])]==['identical']
    assert replication_status(Row(preds_of(row.record, -30) | dict(record_id=row.id)), [new])=='contradicted by 1'


# Refusals, one line each

def test_refusals(done, board, tmp_path, refused, replay):
    row,new = done[1],done[2].row
    assert 'no record' in refused(f'reproduce 0123456789 --out {board}')
    assert 'is a replication of' in refused(f'reproduce {new.id} --out {board}')
    assert 'whole number' in refused(f'reproduce {row.id} --out {board} --k 0')
    assert 'is not a clone with' in refused(f'challenge {row.id} --out {board}')
    assert 'no engine' in refused(f'reproduce {row.id} --out {board} --engine steam')
    assert 'device' in refused(f'reproduce {row.id} --out {board} --device foo')
    tiny_dataset(tmp_path/'other', '0123456789')
    line = refused(f'reproduce {row.id} --out {board} --data {tmp_path/"other"}')
    assert row.data['manifest_sha256'][:16] in line and 'partial copy' in line
    assert not replay, 'nothing is trained'

def test_unknown_rules_schema_and_parts(done, tmp_path, refused, replay):
    rec = done[1].record
    later = write_record(tmp_path, sealed(rec | dict(rules=99)))
    assert 'version 99 of the rules' in refused(f'reproduce {later} --out {tmp_path}')
    odd = sealed(rec | dict(schema=99))
    path = tmp_path/'records'/done[1].track.cell/f'{odd["record_id"]}.json'
    path.write_bytes(to_bytes(odd))
    assert 'schema 99' in refused(f'reproduce {path} --out {tmp_path}')
    from woofbench.train.recipe import from_dict
    recipe = from_dict(rec['recipe'])
    strange = replace(recipe, model=replace(recipe.model, act='swish7'))
    path = write_record(tmp_path, make_record(done[1].track, strange, rec['data'], rec['runs'],
                                              Made(*(rec[k] for k in ('code','env','cost','created')))))
    assert 'needs act swish7' in refused(f'reproduce {path} --out {tmp_path}') and not replay

class Swish8(torch.nn.Module):
    def forward(self, x): return x*torch.sigmoid(8*x)

def test_changed_code_takes_trust(done, tmp_path, refused, monkeypatch):
    rec = done[1].record
    dirty = sealed(rec | dict(code=rec['code'] | dict(dirty=True, source_sha256='0'*16)))
    path = write_record(tmp_path, dirty)
    line = refused(f'reproduce {path} --out {tmp_path}')
    assert 'changed code, source 0000000000000000' in line and '--trust-code' in line
    assert plan_of(Row(dirty), None, trust_code=True).recipe
    from woofbench.models.parts import acts
    monkeypatch.setitem(acts, 'swish8', Swish8)
    mine = run('digits', epochs=1, seeds=1, size=16, act='swish8', out=tmp_path/'mine', say=hush)
    assert mine.record['code']['dirty'] and other_code(mine.record)=='', 'it shows that it is the same source'
    other = sealed(mine.record | dict(outside={k:'0'*16 for k in mine.record['outside']}))
    said,here = other_code(other),mine.record['outside']['act swish8']
    assert f'act swish8 (source here {here}, of the record {"0"*16})' in said and 'not in this package' in said

def test_differences(done):
    a = done[1].record
    b = a | dict(engine='fast', env=a['env']
                 | dict(workers=3, cores=99, versions=a['env']['versions'] | dict(torch='9', new='1')))
    assert {k for k,_,_ in differences(a, b)}=={'engine','workers','torch',
                                                'new'}-({'engine'} if a['engine']=='fast' else set())
    assert differences(a, a)==[]
