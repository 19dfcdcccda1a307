"""Models in a folder with their card, and on Hugging Face's hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vice.errors import UserError, brief
from vice.models.checkpoint import Checkpoint, load_checkpoint, save_run
from vice.models.embedder import Embedder
from vice.names import printable
from vice.paths import from_home
from vice.predictor.model_card import CARD_FILE, is_card, model_card
from vice.runtime.files import make_folder, write_text
from vice.runtime.own_folder import keep_others, says
from vice.runtime.provenance import digest
from vice.runtime.run_folder import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME


def fetch(name: str, revision: str | None = None, **more: Any) -> str:
    """The folder of a model that lies on the hub, downloaded if it is not there yet.

    Args:
        name: ``owner/name``, or a folder, which is taken as it is.
        revision: A branch, tag or commit; None for the newest.
        **more: As of `huggingface_hub.snapshot_download`: ``token``, ``cache_dir``, ...

    Raises:
        UserError: It cannot be had, or huggingface_hub is missing.
    """
    if (folder := from_home(name)).exists():
        return str(folder)
    files = [WEIGHTS_NAME, CARD_NAME, CARD_FILE]
    found: str = _asked(
        lambda hub: hub.snapshot_download(name, revision=revision, allow_patterns=files, **more),
        f"cannot fetch {name}",
    )
    if not (Path(found) / WEIGHTS_NAME).is_file():
        raise UserError(f"{name} holds no {WEIGHTS_NAME}: it is no model of ViCE")
    return found


def save(predictor: Any, folder: str | Path, name: str | None = None, **card: Any) -> Path:
    """Writes ``vice.safetensors``, ``vice.json`` and the card, ``README.md``, into a folder.

    Args:
        predictor: The model; one that ViCE trained, since no other has an architecture to save.
        folder: Made if missing.
        name: As the card says that it is loaded; None for the folder.
        **card: As of `vice.predictor.model_card.model_card`.

    Raises:
        UserError: Another kind of model, the folder cannot be written, or files in it are of
            somebody else or of the training of another model.
    """
    checkpoint, target = predictor.checkpoint, from_home(folder)
    if not isinstance(checkpoint.embedder, Embedder):
        raise UserError(
            f"{predictor.name} is no model of ViCE's own: save the file that it was loaded from"
        )
    text = model_card(checkpoint, name=name or str(folder), **card)
    _keep_run(target, checkpoint)
    keep_others(target, (WEIGHTS_NAME, CARD_NAME), ours=says(target / CARD_NAME, ("embedder",)))
    keep_others(target, (CARD_FILE,), ours=is_card(target / CARD_FILE))
    make_folder(target)
    save_run(target, checkpoint.embedder, checkpoint.concepts, checkpoint.meta)
    write_text(target / CARD_FILE, text)
    return target


def _keep_run(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuses the folder of a training, whose weights those of another model would replace."""
    if (folder / CONFIG_NAME).exists():
        known = load_checkpoint(folder).embedder if (folder / WEIGHTS_NAME).exists() else None
        if known is None or digest(known) != digest(checkpoint.embedder):
            raise UserError(
                f"{printable(str(folder))} holds a training ({CONFIG_NAME}) of another model: "
                "choose another folder"
            )


def push(
    predictor: Any, name: str, *, private: bool = True, token: str | None = None, **card: Any
) -> str:
    """Puts a model and its card on the hub.

    Args:
        predictor: As in `save`.
        name: ``owner/name``; made if missing.
        private: Whether a new one is seen by its owner alone.
        token: Of the hub; None for that of its own login.
        **card: As in `save`.

    Returns:
        The address of what was written.

    Raises:
        UserError: As in `save`; the hub refuses; huggingface_hub is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(predictor, folder, name, **card)

        def upload(hub: Any) -> str:
            client = hub.HfApi(token=token)
            client.create_repo(name, private=private, exist_ok=True)
            return str(client.upload_folder(repo_id=name, folder_path=folder))

        address: str = _asked(upload, f"cannot write {name}")
        return address


def _asked(ask: Callable[[Any], Any], what: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"{what}: the hub needs huggingface_hub: pip install huggingface_hub"
        ) from error
    try:
        return ask(huggingface_hub)
    # Catch-all: names, tokens, the network and its proxies each have errors of their own.
    except Exception as error:
        raise UserError(
            f"{what} ({brief(error)}); check its name, your login (hf auth login) and the network, "
            "or give a folder"
        ) from error


class OnHub:
    """What `vice.Predictor` has for folders with a card and for Hugging Face's hub."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, device: str | None = None, revision: str | None = None, **more: Any
    ) -> Any:
        """Loads a model of Hugging Face's hub.

        Args:
            name: ``owner/name``, or a folder.
            device: As in `vice.load`.
            revision: A branch, tag or commit; None for the newest.
            **more: As of `huggingface_hub.snapshot_download`: ``token``, ``cache_dir``,
                ``local_files_only``.

        Returns:
            The predictor.

        Raises:
            UserError: It cannot be had, or is no model of ViCE; huggingface_hub is missing.
        """
        from vice.predictor.loading import load

        return load(fetch(name, revision, **more), device)

    def save_pretrained(self, folder: str | Path, name: str | None = None, **card: Any) -> Path:
        """Writes the model and its card into a folder; arguments and errors as in `save`."""
        return save(self, folder, name, **card)

    def push_to_hub(self, name: str, **more: Any) -> str:
        """Puts the model and its card on the hub; arguments and errors as in `push`."""
        return push(self, name, **more)
