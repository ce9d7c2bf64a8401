import subprocess
import sys

import pytest

CODE = {
    "is not imported with tfbnn": "import keras, tfbnn; assert 'keras_tuner' not in sys.modules",
    "is asked for by name": (
        "sys.modules['keras_tuner'] = None\n"
        "import tfbnn\n"
        "try:\n    tfbnn.search\n"
        "except ImportError as error:\n    assert 'pip install \"tfbnn[search]\"' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_keras_tuner(name):
    program = [sys.executable, "-c", f"import sys\n{CODE[name]}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
