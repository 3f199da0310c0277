"The functions of the lesson on the audit, and the reported rows of the project's own board"
import json
from conftest import root
from woofbench.board.reported.history import ASK, of_board

_wanted = 'imports', 'fits-def', 'faults-def', 'comparable-def'
_cells = json.loads((root/'nbs/lessons/audit.ipynb').read_text(encoding='utf-8'))['cells']
_code = {c['id']:''.join(c['source']) for c in _cells if c['cell_type']=='code'}
_space = {}
for _o in _wanted: exec(_code[_o], _space)
fits,faults,comparable = (_space[k] for k in ('fits','faults','comparable'))

path = root/ASK
rows = of_board(root)

def reported(dataset=None, size=None, epochs=None):
    "The reported rows of a cell, or of all cells"
    want = [(k,v) for k,v in dict(dataset=dataset, size=size, epochs=epochs).items() if v is not None]
    return [o for o in rows if all(getattr(o, k)==v for k,v in want)]
