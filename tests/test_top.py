"What is at the top of the package: names, the program by other ways, the board as a table"
import importlib, pkgutil, subprocess, sys
import pandas as pd
import pytest
import woofbench
from conftest import root
from woofbench import BadInput, Row, leaderboard
from warm import python


def test_no_public_name_is_that_of_a_sub_package():
    import torch # noqa: F401  some modules need it first
    folders = {o.name for o in pkgutil.iter_modules(woofbench.__path__)}
    assert not folders & set(woofbench.__all__)
    for name in woofbench.__all__: getattr(woofbench, name)
    for o in ('commands.run','commands.ablate','board.table','train.recipe','models.parts','site.site','web.build'):
        importlib.import_module(f'woofbench.{o}')
    for name in woofbench.__all__: assert getattr(woofbench, name).__class__.__name__!='module', name

@pytest.mark.parametrize('argv', (['--version'], ['compare', '--help']))
def test_the_package_is_a_program(argv):
    p = subprocess.run([sys.executable, '-m', 'woofbench', *argv], capture_output=True, text=True, cwd=root)
    assert p.returncode==0 and p.stdout.startswith(('woofbench '+woofbench.__version__, 'usage: woofbench')), p

def test_the_board_is_a_table():
    t = leaderboard(root)
    assert list(t.columns)==list(pd.read_csv(root/'leaderboard.csv', nrows=0).columns)
    assert t['mean'].dtype==float and t.params.dtype=='int64' and all(isinstance(o, str)
                                                                      for c in ('id','recipe','source') for o in t[c])
    assert set(t.id)=={o.stem for o in (root/'records').rglob('*.json') if o.name!='reported.json'}
    everything = leaderboard(root, reported=True)
    assert len(everything)==len(
            pd.read_csv(root/'leaderboard.csv')) and everything.status.str.startswith(
                    'reported').sum()==len(everything)-len(t)

def test_a_row_by_its_name_needs_no_other_import():
    code = f'from woofbench import Row; print(Row.load("2ef040", {str(root)!r}).id)'
    p = python(code, cwd=root)
    assert p.stdout=='2ef040089326534f\n', p.stderr

def test_a_row_by_its_name():
    row = Row.load('2ef040', root)
    assert row.id=='2ef040089326534f' and row.status=='ranked'
    assert repr(Row.load(row.path, root))==repr(row)
    assert len(row.to_df())==25
    with pytest.raises(BadInput, match='no record'): Row.load('beef', root)
