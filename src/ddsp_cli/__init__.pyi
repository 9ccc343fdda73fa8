from ddsp_cli.api import Instrument as Instrument
from ddsp_cli.api import analyze as analyze
from ddsp_cli.api import load as load
from ddsp_cli.api import transfer as transfer
from ddsp_cli.api import transfer_file as transfer_file
from ddsp_cli.errors import DatasetError as DatasetError
from ddsp_cli.errors import DdspError as DdspError
from ddsp_cli.errors import InputError as InputError
from ddsp_cli.errors import ModelError as ModelError
from ddsp_cli.errors import OutputError as OutputError
from ddsp_cli.errors import UsageError as UsageError
from ddsp_cli.workflows.evaluate import evaluate as evaluate
from ddsp_cli.workflows.export import export as export
from ddsp_cli.workflows.import_ import import_instrument as import_instrument
from ddsp_cli.workflows.models import catalogue
from ddsp_cli.workflows.prepare import prepare as prepare
from ddsp_cli.workflows.reverb import reverb_files as reverb_files
from ddsp_cli.workflows.train import train as train
from ddsp_cli.workflows.transfer import transfer_files as transfer_files

models = catalogue
__version__: str
