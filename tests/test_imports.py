"`--import` and the project file: which commands run your files"
import json, re, shutil, sys
import pytest
from conftest import root
from woofbench.train import imports
from woofbench.commands.cli import main, make_parser
from woofbench.commands.flags import verbs
from woofbench.board.record.own_parts import helpers
from woofbench.data.augment import augs
from woofbench.models.parts import acts

MINE = '''
from torch import nn
from woofbench.data.augment import augs
from woofbench.models.parts import acts
from woofbench.registry import Param

@augs.register('my_dim', params=dict(by=Param(.5, 'What pixels are multiplied by', 0, 1)))
def my_dim(r, *, by): return lambda x, at: x*by
'''
OTHER = '''
from torch import nn
from woofbench.models.parts import acts
@acts.register('my_silu')
def my_silu(): return nn.SiLU()
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder with files of parts, from which commands are started; afterwards none of them is known"
    monkeypatch.chdir(tmp_path)
    for k,o in dict(mine=MINE, other=OTHER).items(): (tmp_path/f'{k}.py').write_text(o)
    yield tmp_path
    forget_parts(tmp_path)

def forget_parts(folder):
    "As in a new process"
    for o in [*sys.modules]:
        if str(folder) in (getattr(sys.modules[o], '__file__', None) or ''): del sys.modules[o]
    imports._done.clear()
    for reg,name in ((augs,'my_dim'), (acts,'my_silu')): reg.pop(name, None)

def parsed(line): return vars(make_parser().parse_strict(line.split()))


def test_an_imported_part_has_a_name_and_flags(here, refused):
    assert "unknown flag '--aug-by'" in refused('run --aug my_dim --aug-by 0.5 --dataset digits')
    assert parsed('run --import mine.py --aug my_dim --aug-by 0.5')==dict(command='run', aug='my_dim', aug_by=.5)
    assert 'did you mean my_dim' in refused('run --import mine.py --dataset digits --aug my_dmi')
    assert 'did you mean --aug-by' in refused('run --import mine.py --aug-bye 1')
    said = refused('run --import mine.py --dataset digits --aug my_dim --aug-by 2')
    assert 'aug_by must be a number from 0 to 1' in said

def test_the_help_shows_the_parameters_of_an_imported_part(here, cli):
    rc,out,_ = cli('run --import mine.py --help')
    assert rc==0 and '--aug-by' in out and 'What pixels are multiplied by' in out and '--import FILE_OR_MODULE' in out

@pytest.mark.parametrize('verb', ('run', 'tune --space lr=1e-3..1e-2', 'ablate --one-at-a-time lr=1e-3'))
def test_several_files_and_the_project_file(here, verb):
    (here/'woofbench.toml').write_text('import = ["mine.py"]\n')
    got = parsed(f'{verb} --import {here}/other.py --import=mine.py --act my_silu')
    assert got['act']=='my_silu' and 'imports' not in got and 'my_dim' in augs and 'my_silu' in acts
    assert [o.name for o in imports.imported()]==['mine', 'other']

def test_the_project_file_counts_only_where_the_command_is_started(here, tmp_path_factory, monkeypatch):
    (here/'woofbench.toml').write_text('import = ["mine.py"]\n')
    monkeypatch.chdir(tmp_path_factory.mktemp('elsewhere'))
    parsed(f'run --out {here} --data {here}')
    assert 'my_dim' not in augs and imports.imported()==[]

BAD = dict(gone=('', '--import gone.py', 'no file gone.py'), nothing=('', '--import', 'expected one argument'),
           module=('', '--import no_such_module', "no module 'no_such_module'"),
           syntax=('def', '--import bad.py', 'SyntaxError'),
           fails=('x = 1\ny = x/0', '--import bad.py', 'ZeroDivisionError: division by zero (line 2 of bad.py)'),
           taken=(OTHER.replace('my_silu', 'mish'), '--import bad.py', "act 'mish' is already taken"),
           name=('', '--import my-file.py', 'no file my-file.py'))

BAD |= dict(
    ends=('import sys; sys.exit(3)', '--import bad.py', 'bad.py cannot be imported: it ends the program (line 1 of'),
    beside=('from other import my_silu', '--import bad.py', 'first: --import other.py --import bad.py'),
    dots=('from .other import my_silu', '--import bad.py', 'the folder that has the package: --import test_what'))

@pytest.mark.parametrize('why', BAD)
def test_what_is_wrong_with_a_file_is_one_line(here, refused, why):
    text,words,said = BAD[why]
    (here/'bad.py').write_text(text)
    assert said in refused(f'run {words} --dataset digits')
    assert imports.imported()==[]

@pytest.mark.parametrize('text', ('import = 3', 'import = [1]', 'import', '\x00'))
def test_an_odd_project_file_is_one_line(here, refused, text):
    (here/'woofbench.toml').write_text(text)
    assert 'woofbench.toml' in refused('run --dataset digits')

def test_a_file_beside_the_notebook_is_imported_by_its_path(here, monkeypatch):
    "Python would find it as a module too, and it is the same one"
    monkeypatch.syspath_prepend(str(here))
    assert imports.import_parts('mine.py').name=='mine' and 'my_dim' in augs

def test_a_row_with_an_import_is_not_ranked_even_if_it_uses_no_part_of_it(here, cli):
    "The file could have changed anything"
    rc,out,err = cli('run --dataset digits --size 16 --epochs 1 --seeds 1 --import other.py')
    assert rc==0 and 'unranked: changed code' in out, err
    assert 'this is your own code: the file other' in out
    rec = json.loads(next((here/'records').rglob('*.json')).read_text())
    assert rec['outside']=={} and [o['name'] for o in rec['imports']]==['other'] and rec['code']['dirty'] is True

def test_a_file_does_not_read_what_was_typed_for_this_program(here, monkeypatch, capsys):
    (here/'mine.py').write_text('import argparse\nargparse.ArgumentParser().parse_args()\n'+MINE)
    monkeypatch.setattr(sys, 'argv', 'woofbench run --import mine.py --aug my_dim --dataset gone'.split())
    assert main()==2 and "'gone'" in capsys.readouterr().err and 'my_dim' in augs

def test_a_module_of_a_package_is_imported_by_its_name(here):
    (here/'woof_pk').mkdir()
    (here/'woof_pk/helper.py').write_text('')
    (here/'woof_pk/trick.py').write_text('from . import helper\n'+MINE)
    assert parsed('run --import woof_pk.trick --aug my_dim')['aug']=='my_dim'
    assert helpers()==['woof_pk.helper'] and str(here) not in sys.path

def test_an_error_in_a_forward_of_yours_names_its_line(here, refused):
    "The size of the images is named only where another size would do"
    text = OTHER.replace('nn.SiLU()', 'Mine()')+"""
class Mine(nn.Module):
    "An act"
    def forward(self, x): return {}
"""
    (here/'other.py').write_text(text.format('F.relu(x)'))
    said = refused('run --dataset digits --import other.py --act my_silu')
    assert 'this network fails in line 9 of other.py: NameError' in said and 'px' not in said
    forget_parts(here)
    (here/'other.py').write_text(text.format('x if x.shape[3]%2==0 or x.shape[3]<9 else no'))
    said = refused('run --dataset digits --size 42 --arch xresnet10_tiny --import other.py --act my_silu')
    assert 'cannot take 42 px images; 40 or 48 px' in said and 'NameError' in said

def test_an_ablation_takes_a_base_that_was_trained_without_the_file(here, cli):
    "Only the changed recipe has a part of the file"
    small = '--dataset digits --size 16 --epochs 1 --seeds 2'
    line = f'ablate {small} --import other.py --one-at-a-time act=my_silu'
    def rows(): return {o.stem:json.loads(o.read_text()) for o in (here/'records').rglob('*.json')}
    rc,out,err = cli(f'{line} --out {here}/alone')
    assert rc==0 and 'this recipe has no part of yours, but is trained with other' in out+err, err
    forget_parts(here)
    rc,_,err = cli(f'run {small}')
    assert rc==0, err
    (base,_), = rows().items()
    rc,out,err = cli(line)
    assert rc==0 and f'taken from the board: {base} has this recipe' in out+err and 'my_silu' in out, (out, err)
    assert sorted(len(o['imports']) for o in rows().values())==[0, 1], 'the base is there once'

def test_a_row_of_a_part_is_trained_again_with_its_file(here, cli, refused):
    "The record has the same source, so nothing has to be trusted"
    rc,out,err = cli('run --dataset digits --size 16 --epochs 1 --seeds 1 --import other.py --act my_silu')
    assert rc==0, err
    path = next((here/'records').rglob('*.json'))
    forget_parts(here)
    assert 'act my_silu, not registered here' in refused(f'reproduce {path.stem} --quick')
    rc,out,err = cli(f'reproduce {path.stem} --quick --import other.py')
    assert rc==0 and 'identical' in out, (out, err)
    (here/'other.py').write_text('# a comment\n'+OTHER)
    forget_parts(here)
    rc,out,err = cli(f'challenge {path.stem} --k 1 --nonce 0123456 --import other.py')
    assert rc in (0,1,3) and 'challenge of' in out, (out, err)
    (here/'other.py').write_text(OTHER.replace('nn.SiLU()', 'nn.GELU()'))
    forget_parts(here)
    assert 'nothing shows that the record was made with it' in refused(f'reproduce {path.stem} --import other.py')


# Commands that read what other people wrote

def records(folder):
    "A row of digits and two of another cell, copied from the board"
    digits,woof = (sorted((root/'records'/o).rglob('*.json')) for o in ('digits', 'imagewoof/64-s192-e5'))
    found = digits[:1]+woof[:2]
    for o in found:
        (folder/o.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(o, folder/o.relative_to(root))
    return [o.stem for o in found]

def test_a_hostile_project_file_in_a_board_does_nothing(here, cli):
    a,b,c = records(here)
    files = ('evil.py', 'conftest.py', 'sitecustomize.py', 'woofbench_evil.py')
    for o in files: (here/o).write_text(f'open({str(here/"canary")!r}, "a").write({o!r})\n')
    (here/'woofbench.toml').write_text('import = ["evil.py", "woofbench_evil"]\n')
    for folder in ('records', 'rulings'):
        (here/folder).mkdir(exist_ok=True)
        shutil.copy(here/'woofbench.toml', here/folder)
    reads = dict(check=['check', f'check records/digits/32-s32-e5/{a}.json'], board=['board', 'board --check'],
                 compare=[f'compare {b} {c}'], submit=[f'submit {a} --dry-run --clone {root}'],
                 site=['site --out pages'], parts=['parts', 'parts act'],
                 doctor=['doctor'], cache=['cache'], code=[f'code {a}'],
                 new=['new trick idea', 'new trick --from evil.py'])
    reads['sweep'] = ['sweep plan.toml --dry-run'] # its tasks import, in processes of their own, what the plan names
    assert {*reads}=={k for k,v in verbs.items() if not v.imports}, 'a verb is missing here'
    for verb,lines in reads.items():
        for line in (*lines, f'{verb} --help', f'{verb} --import evil.py'):
            rc,_,err = cli(line)
            assert rc in (0,1,2,3) and 'Traceback' not in err, (line, err)
            assert not (here/'canary').exists(), line
    assert imports.imported()==[]
    assert cli('run --help')[0]==0 and (here/'canary').exists(), 'a command that trains does run it'

def test_cost_and_export_import_only_what_you_name(here, cli):
    "They train nothing, so the project file of a board does not count"
    a,*_ = records(here)
    (here/'evil.py').write_text(f'open({str(here/"canary")!r}, "w")\n')
    (here/'woofbench.toml').write_text('import = ["evil.py"]\n')
    assert {k for k,v in verbs.items() if v.imports and not v.trains}=={'cost', 'export'}
    for line in ('cost --help', 'cost --act', 'export --help', f'export {a} dogs.onnx'):
        rc,_,err = cli(line)
        assert rc in (0,2) and 'Traceback' not in err and not (here/'canary').exists(), (line, err)
    assert parsed('cost --import other.py --act my_silu')['act']=='my_silu'
    assert [o.name for o in imports.imported()]==['other'] and not (here/'canary').exists()

def test_only_flags_of_verbs_that_train_lead_to_an_import():
    used = {o.relative_to(root/'woofbench').as_posix() for o in (root/'woofbench').rglob('*.py')
            if re.search(r'\b(project_imports|import_parts)\b', o.read_text(encoding='utf-8')) and o.name!='_modidx.py'}
    # processes that get the files by name, and the verb that hands them over
    children = {'commands/sweep_tasks.py', 'commands/verbs.py', 'train/processes.py'}
    named = {'commands/prepare.py', 'board/weights.py', 'web/export.py'} # in a message, or in code for readers
    assert used=={'train/imports.py', 'commands/flags.py', '__init__.py'} | children | named
    assert {k for k,v in verbs.items() if v.imports}>={'run', 'ablate', 'cost', 'reproduce', 'challenge'}
