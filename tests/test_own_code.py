"A result carries its code: the text of your own parts is in the record, as text that nothing runs"
import json, re
import pytest
from test_imports import OTHER, forget_parts, here  # noqa: F401  a folder with files of parts
from pulls import doctored
from woofbench.board.record.own_parts import own_code
from woofbench.board.record.record import check_record, code_file, read_record, write_record
from woofbench.board.record.schema import MOST_CODE
from woofbench.board.row import Row
from woofbench.models.parts import acts
from woofbench.registry import BadInput
from woofbench.train.recipe import Recipe

RUN = 'run --dataset digits --size 16 --epochs 1 --seeds 1 --bs 128 --import other.py --act my_silu'

@pytest.fixture
def row(here, cli):  # noqa: F811
    "A row with a part of a file, whose text has signs of every kind"
    (here/'other.py').write_bytes((OTHER + '# Grüße <b>\u202e&</b>\r\n').encode())
    rc,out,err = cli(RUN)
    assert rc==0, err
    assert 'the record will have the source code of other: everyone who gets the record can read it' in out
    forget_parts(here)
    return Row(read_record(path := next((here/'records').rglob('*.json'))), path)

def test_the_text_leads_to_the_same_row_again(here, cli, row, refused):  # noqa: F811
    raw = (here/'other.py').read_bytes()
    assert row.own_code=={'other':raw.decode()} and row.record.imports[0].name=='other'
    (here/'other.py').unlink()
    assert f'woofbench code {row.id} shows' in refused(f'reproduce {row.id} --quick')
    rc,out,_ = cli(f'code {row.id}')
    assert rc==0 and 'Grüße' in out and '\\u202e' in out and '\u202e' not in out
    assert 'my_silu' not in acts, 'shown, and not run'
    rc,out,_ = cli(f'code {row.id} --to again')
    assert rc==0 and (here/'again'/'other.py').read_bytes()==raw and 'read it before you import it' in out
    assert cli(f'code {row.id} --to again')[0]==0, 'the same text may be there'
    (here/'again'/'other.py').write_text('mine')
    assert 'is there already' in refused(f'code {row.id} --to again')
    (here/'again'/'other.py').write_bytes(raw)
    rc,out,err = cli(f'reproduce {row.id} --quick --import again/other.py --json')
    assert rc==0 and json.loads(out)['word']=='identical', err

def test_the_page_shows_it_and_says_how_to_use_it(here, cli, row):  # noqa: F811
    assert cli('site --out pages')[0]==0
    page = (here/'pages'/'rows'/f'{row.id}.html').read_text(encoding='utf-8')
    assert 'Code of its author' in page and 'Grüße &lt;b&gt;\\u202e&amp;' in page and '<b>\\u202e' not in page
    assert f'woofbench code {row.id} --to code' in page and '--import code/other.py' in page
    assert re.search(r'from woofbench import import_parts, run\n\nimport_parts\(&#39;code/other.py&#39;\)', page)

def test_a_row_without_such_code_has_no_text(here, cli, refused):  # noqa: F811
    assert cli('run --dataset digits --size 16 --epochs 1 --seeds 1')[0]==0
    path = next((here/'records').rglob('*.json'))
    assert 'own_code' not in json.loads(path.read_text()) and Row(read_record(path)).own_code=={}
    assert 'carries no source code' in refused(f'code {path.stem}')

BAD = dict(
    changed=(lambda o: o.update(other=o['other'].replace('return', 'return 2*')), 'not that of the imported file'),
    unknown=(lambda o: o.update(more='x'), 'source code of more, and does not name that'),
    empty=(lambda o: o.clear(), 'own_code'),
    surrogate=(lambda o: o.update({'act my_silu':'\ud800'}), 'is not text'),
    large=(lambda o: o.update({'act my_silu':'x'*(MOST_CODE-1)}), 'bytes of source code are more than'),
    larger=(lambda o: o.update({'act my_silu':'x'*(MOST_CODE+1)}), 'own_code'),
    number=(lambda o: o.update({'act my_silu':1}), 'own_code'))

@pytest.mark.parametrize('why', BAD)
def test_text_that_is_not_what_the_record_names_is_refused(row, why):
    change,said = BAD[why]
    with pytest.raises(BadInput, match=said): check_record(doctored(row.record, lambda r: change(r['own_code'])))
    fine = doctored(row.record, lambda r: r['own_code'].update({'act my_silu':'x'}))
    check_record(fine)

def test_a_name_is_no_path(here, cli, row):  # noqa: F811
    assert code_file('../../x/y')=='_x_y.py' and code_file('act mine:silu')=='act_mine_silu.py'
    evil = doctored(row.record, lambda r: r.update(imports=[], outside={'../../up':'0'*16, '.. ..up':'0'*16},
                                                   own_code={'../../up':'x'}))
    path = write_record(here/'b', check_record(evil))
    assert cli(f'code {path} --out b --to b/to')[0]==0
    assert [o.name for o in (here/'b'/'to').iterdir()]==['_up.py']
    two = doctored(evil, lambda r: r['own_code'].update({'.. ..up':'y'}))
    path = write_record(here/'c', check_record(two))
    rc,_,err = cli(f'code {path} --out c --to c/to')
    assert rc==2 and 'would be one file' in err and not (here/'c'/'to').exists()

@pytest.mark.parametrize('name', ('json','torch','conftest','CON'))
def test_no_file_takes_the_name_of_a_module(here, cli, row, name):  # noqa: F811
    "A program that starts in that folder would run it"
    evil = doctored(row.record, lambda r: r.update(imports=[], outside={name:'0'*16}, own_code={name:'x'}))
    path = write_record(here/'b', check_record(evil))
    rc,_,err = cli(f'code {path} --out b --to b/to')
    assert rc==2 and 'the name of another module' in err and not (here/'b'/'to').exists()

def test_a_file_that_another_one_imports_is_named(here, cli, monkeypatch):  # noqa: F811
    monkeypatch.syspath_prepend(here)
    (here/'helping.py').write_text('def f(x): return x\n')
    (here/'other.py').write_text('from helping import f\n' + OTHER)
    rc,out,err = cli(RUN)
    assert rc==0 and 'it will not have that of helping, which your files import' in out, err

def test_the_cell_of_a_typed_part_is_its_text(monkeypatch):
    "As in a notebook, also for a function, and for a class without methods"
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell()
    cell = ("from torch import nn\nfrom woofbench import acts\nbent = .1\n@acts.register('typed_act')\n"
            "@acts.register('typed_too')\n"
            "class Typed(nn.LeakyReLU):\n    'max(x, bent*x)'\n    def __init__(self): super().__init__(bent)\n")
    try:
        assert shell.run_cell(cell, store_history=True).success
        assert own_code(Recipe().but(act='typed_act'))=={'act typed_act':cell}
        assert own_code(Recipe().but(act='typed_act', stem_act='typed_too'))=={'act typed_act':cell}, 'once'
    finally:
        for o in ('typed_act','typed_too'): acts.pop(o, None)

def test_what_does_not_fit_is_said(here, cli):  # noqa: F811
    (here/'other.py').write_text(OTHER + '#'*MOST_CODE)
    rc,out,err = cli(RUN)
    assert rc==0 and 'the record will have the hash of other, and not its source code' in out, err
    rec = read_record(next((here/'records').rglob('*.json')))
    assert not rec.own_code and rec.imports[0].name=='other'
