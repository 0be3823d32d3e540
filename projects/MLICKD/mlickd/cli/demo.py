"""Show the labels of photos in a page on this machine, correct them by clicking, and download the corrected table."""

import os
import signal
import socket
import tempfile

from mlickd.cli.command_line import command_parser, positive_int
from mlickd.engine.processes import set_stop_handlers
from mlickd.errors import InputError
from mlickd.export.exported_classifier import import_optional
from mlickd.prediction import load_model

EPILOG = """\
example, with the student that `quickstart` has chosen, and the regions of its teacher:
  mlickd demo --model output/quickstart --teacher output/quickstart/seed1/teacher

Open the printed address in a browser. Photos stay on this machine, in a temporary folder until Ctrl-C ends the demo.
The downloaded table has the photos whose labels you have corrected or confirmed, with the columns `file_name` and
`labels`. It is ready for `mlickd quickstart --labels`.
"""


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = command_parser(__doc__, EPILOG)
    model_help = "run, output of quickstart or compare, checkpoint, exported student, or USER/NAME on the Hub"
    parser.add_argument("--model", required=True, metavar="PATH", help=model_help)
    parser.add_argument("--teacher", metavar="FOLDER", help="run of a teacher, whose regions the page shows")
    host_help = "address to listen on, without a password or encryption (default: 127.0.0.1, only this machine)"
    parser.add_argument("--host", default="127.0.0.1", help=host_help)
    parser.add_argument("--port", type=positive_int, metavar="N", help="port (default: the first free one from 7860)")
    args = parser.parse_args()
    set_stop_handlers(signal.default_int_handler)  # so that the photos are deleted
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
    with tempfile.TemporaryDirectory(prefix="mlickd-demo-") as os.environ["GRADIO_TEMP_DIR"]:
        import_optional("gradio", "the demo", "demo")
        from mlickd.prediction.photo_page import CSS, THEME, build_page

        try:  # Gradio would try other ports for minutes
            family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
            socket.create_server((args.host.strip("[]"), args.port or 0), family=family).close()
        except (OSError, OverflowError) as error:
            raise InputError(f"--host {args.host} --port {args.port or ''}: {error}") from error
        predictor = load_model(args.model)
        teacher = load_model(args.teacher) if args.teacher else None
        if teacher and not teacher.finds_regions:
            raise InputError(f"--teacher {args.teacher}: is not a teacher; name its run, such as OUTPUT/seed1/teacher")
        if teacher and {*teacher.class_names} != {*predictor.class_names}:
            raise InputError(f"--teacher {args.teacher}: has other classes than --model {args.model}")
        os.environ.update(NO_PROXY="*", no_proxy="*")  # Gradio's requests stay on this machine; a proxy would fail
        page = build_page(predictor, teacher, args.model)
        look = {"css": CSS, "theme": THEME, "footer_links": [], "quiet": True, "prevent_thread_lock": True}
        off = dict.fromkeys(("share", "ssr_mode", "mcp_server", "run_history", "enable_monitoring"), False)
        try:
            _, address, _ = page.launch(server_name=args.host, server_port=args.port, **look, **off)
        except OSError as error:
            raise InputError(f"--host {args.host} --port {args.port or ''}: {error}") from error
        print(f"{address} (Ctrl-C ends the demo)", flush=True)
        page.block_thread()
