"""Serve the stand-in until SIGINT or SIGTERM. Variables: see the package's docstring."""

import os
from pathlib import Path

from sandbox import serving
from sandbox.firebase.app import ACTION_PATH, create_app


def main() -> None:
    port = int(os.environ["SANDBOX_FIREBASE_PORT"])
    own_page = f"http://{serving.HOST}:{port}{ACTION_PATH}"
    app = create_app(
        project_id=os.environ["SANDBOX_FIREBASE_PROJECT_ID"],
        api_key=os.environ["SANDBOX_FIREBASE_API_KEY"],
        data=Path(os.environ["SANDBOX_FIREBASE_DATA"]),
        action_url=os.environ.get("SANDBOX_FIREBASE_ACTION_URL") or own_page,
    )
    serving.run(app, port=port)


if __name__ == "__main__":
    main()
