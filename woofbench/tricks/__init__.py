"One module per trick; importing this package registers them all, by walking the folder: there is no list to edit"
import importlib, pkgutil

__all__ = [m.name for m in pkgutil.iter_modules(__path__)]
for name in __all__: importlib.import_module(f'{__name__}.{name}')
