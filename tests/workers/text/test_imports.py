import subprocess
import sys


def test_reading_text_loads_no_torch() -> None:
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[1]); import headrace_worker.text, headrace_worker.fetch; "
        "print(sorted({'torch', 'transformers', 'gguf', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, repr(sys.path)], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"[]\n"
