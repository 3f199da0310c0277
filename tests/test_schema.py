"The published JSON Schema of a record, against the committed records and against hostile ones"
import json, re
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from conftest import root
from pulls import Dogs
from woofbench.board.record.record import as_record, read_records, to_bytes
from woofbench.board.record.schema import SCHEMAS, Record, json_schema
from woofbench.board.record.strict import plain
from woofbench.registry import BadInput
from woofbench.text import PLAIN, plain_text

path = root/'schema'/'record.json'
schema = json_schema()
real = [json.loads(o.read_bytes()) for o in sorted((root/'records').rglob('*/*.json'))]

@pytest.fixture(scope='module')
def row():
    "A record of the newest schema, with something in every field"
    one = dict(name='my_trick', sha256='0'*64)
    more = dict(imports=[one], callbacks=[one | dict(observes=True)], outside={'act mine':'0'*16},
                own_code={'act mine':'x = 1'})
    return json.loads(to_bytes(Dogs().entry())) | more

@pytest.fixture(scope='module')
def each(row): return {1:next(o for o in real if o['schema']==1), 2:next(o for o in real if o['schema']==2), 3:row}

KNOWN = set('$schema title description discriminator $defs $ref anyOf type enum minimum maximum exclusiveMaximum '
            'pattern minLength maxLength'.split()) | set(
    'properties required additionalProperties propertyNames minProperties maxProperties items minItems maxItems'.split(
            ))
TYPES = dict(null=lambda o: o is None, boolean=lambda o: isinstance(o, bool),
             integer=lambda o: _number(o) and o==int(o), number=lambda o: _number(o),
             string=lambda o: isinstance(o, str), array=lambda o: isinstance(o, list),
             object=lambda o: isinstance(o, dict))

def _number(o): return isinstance(o, (int,float)) and not isinstance(o, bool)

def valid(o, s=schema):
    "Does `o` agree with a JSON Schema? The words of the standard that this one uses, and no others"
    assert set(s)<=KNOWN, set(s)-KNOWN
    if '$ref' in s: return valid(o, schema['$defs'][s['$ref'].removeprefix('#/$defs/')])
    if 'anyOf' in s and not any(valid(o, k) for k in s['anyOf']): return False
    if 'type' in s and not TYPES[s['type']](o) or 'enum' in s and (isinstance(o, bool) or o not in s['enum']):
        return False
    if _number(o):
        return s.get('minimum', o)<=o<=s.get('maximum', o) and o<s.get('exclusiveMaximum',
                o+1 if abs(o)<1e15 else float('inf'))
    if isinstance(o, str):
        return s.get('minLength', 0)<=len(o)<=s.get('maxLength', len(o)) and bool(re.search(s.get('pattern', ''), o))
    if isinstance(o, list):
        return s.get('minItems', 0)<=len(o)<=s.get('maxItems', len(o)) and all(valid(k, s.get('items', {})) for k in o)
    return not isinstance(o, dict) or valid_object(o, s)

def valid_object(o, s):
    props,more = s.get('properties', {}),s.get('additionalProperties', {})
    if not s.get('minProperties', 0)<=len(o)<=s.get('maxProperties', len(o)) or set(s.get('required', ()))-set(o):
        return False
    if not all(valid(k, s.get('propertyNames', {})) for k in o): return False
    return all(valid(v, props[k] if k in props else more) if k in props or isinstance(more, dict) else more for k,
               v in o.items())

def taken(rec):
    try: as_record(rec)
    except BadInput: return False
    return True


def test_the_published_file_is_what_the_types_give():
    new = json.dumps(schema, indent=1)+'\n'
    assert path.read_text(encoding='utf-8')==new, f'write json.dumps(json_schema(), indent=1) and a newline to {path}'

def test_all_committed_records_agree_with_it():
    assert {1, 2}<={o['schema'] for o in real}<={1, 2, 3}
    for o in real: assert valid(o) and taken(o)

def test_records_come_back_as_they_are_written():
    recs,bad = read_records(root)
    assert not bad and len(recs)==len(real)
    for o in recs: assert json.loads(to_bytes(o))==json.loads(json.dumps(plain(o))) in real

def places(o, at=()):
    "Every place in a record"
    yield at
    for k,v in o.items() if isinstance(o, dict) else enumerate(o[:2]) if isinstance(o, list) else ():
        yield from places(v, (*at, k))

odd = [None, True, 7, -1, 2.5, -2.5, 2**53, 2**60, 1e300, 'x', 'a b', '', 'see www.example.org', 'a'*301, 'é', [],
       ['x'], [[1]], {}, {'x':1}, {'x':{'y':1}}]

def put(rec, at, value):
    "The record with another value at a place"
    if not at: return value
    rec = json.loads(json.dumps(rec))
    o = rec
    for k in at[:-1]: o = o[k]
    o[at[-1]] = value
    return rec

@pytest.mark.parametrize('k', [pytest.param(o, marks=() if o==max(SCHEMAS) else pytest.mark.slow) for o in SCHEMAS])
def test_what_one_of_them_refuses_the_other_refuses(each, k):
    "Every place of a record, with every odd value"
    n,rec = 0,each[k]
    for at in places(rec):
        for value in odd:
            new = put(rec, at, value)
            assert valid(new)==taken(new), (at, value)
            n += 1
    assert n>2700

@pytest.mark.parametrize('schema', SCHEMAS)
def test_no_key_may_be_missing_or_added(schema, each):
    rec = each[schema]
    for at in places(rec):
        o = rec
        for k in at: o = o[k]
        named = (('versions',), ('outside',), ('own_code',)) # these may have any keys
        if not isinstance(o, dict) or at[:1]==('recipe',) or at[-1:] in named: continue
        for k in o:
            if k=='own_code': continue # not written where there is none
            new = put(rec, at, {a:b for a,b in o.items() if a!=k})
            assert not valid(new) and not taken(new), (at, k)
        new = put(rec, at, o | dict(more=1))
        assert not valid(new) and not taken(new), at

def test_text_that_may_not_be_shown_is_refused_by_the_types_alone(row):
    for text in ('=1+1', '<b>', 'a\u202eb', ' a', 'a\nb'):
        one = dict(name=text, sha256='0')
        for new in (dict(note=text), dict(imports=[one]), dict(callbacks=[one | dict(observes=True)]),
                    dict(outside={text:'0'}),
                    dict(outside=dict(act=text))):
            assert valid(row | new) and not taken(row | new), (text, new)

def test_older_schemas_answer_for_the_new_fields(each):
    for k in (1, 2):
        rec = as_record(each[k])
        assert (rec.imports, rec.outside, rec.callbacks, rec.tuning, rec.processes)==((), None, (), 0, 1)
        assert not {'imports','outside','callbacks','tuning','processes'} & {*plain(rec)}

def test_a_fault_names_the_field(row):
    for at,value,said in ((('runs',1,'curve',0,'train_s'), 'x', 'record.runs[1].curve[0].train_s: Expected '),
                          (('env','device'), '<b>', 'record.env: device is not plain text'),
                          (('claim','more'), 1, 'record.claim: Object contains unknown field more'),
                          (('seeds',), None, 'record.seeds: Expected object, got null')):
        with pytest.raises(BadInput) as e: as_record(put(row, at, value))
        assert said in str(e.value) and len(str(e.value).splitlines())==1

def test_a_record_is_frozen_and_a_misspelt_field_is_an_error(row):
    rec = as_record(row)
    assert isinstance(rec, Record) and as_record(rec) is rec
    with pytest.raises(AttributeError): rec.note = 'x'
    with pytest.raises(AttributeError): print(rec.env.devise)
    assert msgspec.structs.replace(rec, note='x').record_id==rec.record_id
    with pytest.raises(ValueError, match='may be shown'): msgspec.structs.replace(rec, note='=1')

@settings(max_examples=1500, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.text(alphabet='aGh-1 wW.@,()_é\n', max_size=12))
def test_the_pattern_of_plain_text(s):
    "In the schema, in the types and in `plain_text`: one rule"
    assert valid(s, dict(type='string', pattern=PLAIN))==(not s or plain_text(s))
