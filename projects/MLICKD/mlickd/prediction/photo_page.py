"""The page of `mlickd demo`, made of Gradio's components. Gradio is an extra: import this module only for the page."""

import csv
import html
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
import numpy as np
from detectron2.structures import Instances
from PIL import Image

from mlickd.decoding import RecordImage, max_reduction, read_image
from mlickd.errors import InputError
from mlickd.visualization.regions import draw_activation_map, draw_regions

from .predictor import Prediction, Predictor

PHOTO, MAP, REGIONS = "Photo", "Activation map", "Regions"
SIDE = 800  # longer side of the shown photos, in pixels
THEME = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"])
CSS = """
h2 { overflow-wrap: anywhere } #photo img { max-height: 26rem } #bars caption { display: none }
#bars table, #bars tr, #bars td { border: 0; padding: .2rem .6rem }
#bars td:last-child, #bars td > div { width: 100% !important; max-width: none !important }
"""


@dataclass
class _Photo:
    path: str
    preview: str  # path of a JPEG for the browser
    prediction: Prediction  # has the file name on the machine of the user
    labels: list[str]  # after corrections, in the order of the classes
    checked: bool = False  # whether the user has corrected or confirmed the labels
    regions: Instances | None = None  # of the teacher; None until they are shown


def build_page(predictor: Predictor, teacher: Predictor | None, model_name: str) -> gr.Blocks:
    """Return the page, which shows the predictions of a model, and the regions of a teacher with the same classes."""
    names = list(predictor.class_names)
    views = [PHOTO, REGIONS] if teacher else [PHOTO]
    with suppress(InputError):  # the model has no activation maps
        predictor.activation_maps(np.zeros((64, 64, 3), dtype=np.uint8))
        views.insert(1, MAP)

    def add(files: list[tuple[str, str]], photos: list[_Photo], progress=gr.Progress()):  # noqa: B008
        """Predict new photos and append them; return the values of the page, with the first new photo selected.

        ``files`` are (name of the photo, path of its copy). Raises gr.Error without a photo to show.
        """
        known, first = {photo.prediction.name for photo in photos}, len(photos)
        new, left_out = {}, []
        for name, path in files:
            if name in known or name in new:
                left_out.append(f"{name}: a photo with this name is already here")
            else:
                new[name] = path
        found = zip(new.items(), predictor.predict_each(new.values()), strict=True)
        for (name, path), prediction in progress.tqdm(found, "Reading photos", len(new), "photos"):
            if isinstance(prediction, InputError):
                left_out.append(str(prediction).replace(path, name))
            else:
                labels = [label for label in names if label in prediction.labels]
                photos.append(_Photo(path, _write_preview(path), replace(prediction, name=name), labels))
        summary = "".join(["Photos: ", str(len(photos)), *(f"<br>Skipped: {html.escape(row)}" for row in left_out)])
        if not photos:
            raise gr.Error(summary, duration=None)
        index, shown = min(first, len(photos) - 1), gr.Column(visible=True)
        grid, table = results(photos)
        return None, photos, index, summary, shown, shown, gr.Gallery(grid, selected_index=index), table

    def select(event: gr.SelectData) -> int:
        return event.index

    def show(photos: list[_Photo], index: int):
        photo = photos[int(index)]
        ranked = [name for name, _ in photo.prediction.top(None)]
        return photo.labels, gr.Dropdown(ranked, value=ranked[0]), photo.prediction._repr_html_()

    def draw(photos: list[_Photo], index: int, view: str, name: str) -> gr.Image:
        """Return a photo as it is, with the activation map of a class, or with the teacher's regions of this class."""
        photo = photos[int(index)]
        shown = photo.preview
        if view == MAP:
            shown = draw_activation_map(read_image(photo.preview), predictor.activation_maps(photo.path)[name])
        elif view == REGIONS:
            if photo.regions is None:
                photo.regions = teacher.predict(photo.path).regions
            regions = photo.regions[photo.regions.pred_classes == teacher.class_names.index(name)]
            shown = draw_regions(read_image(photo.path), regions, teacher.class_names, side=SIDE)
        return gr.Image(shown, label=photo.prediction.name)

    def correct(photos: list[_Photo], index: int, labels: list[str]):
        photo = photos[int(index)]
        photo.labels, photo.checked = [name for name in names if name in labels], True
        return results(photos)

    def confirm(photos: list[_Photo], index: int):
        """Use the labels of this photo, because the page may still show those of the photo before it."""
        return correct(photos, index, photos[int(index)].labels)

    def results(photos: list[_Photo]) -> tuple[list[tuple[str, str]], str]:
        """Return all photos with their labels as captions, and the path of the table of the checked photos."""
        path = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])) / "labels.csv"
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = [[photo.prediction.name, ";".join(photo.labels)] for photo in photos if photo.checked]
            csv.writer(file, lineterminator="\n").writerows([["file_name", "labels"], *rows])
        texts = [f"{'✓ ' if photo.checked else ''}{', '.join(photo.labels) or 'no label'}" for photo in photos]
        return [(photo.preview, text) for photo, text in zip(photos, texts, strict=True)], str(path)

    with gr.Blocks(title="MLICKD demo", analytics_enabled=False) as page:
        photos, index = gr.State([]), gr.Number(0, visible=False)
        about = "A photo gets the label of each class whose score reaches the threshold, the mark on the bar. "
        about += f"Thresholds: {predictor.thresholds_from}."
        gr.HTML(f"<h2>{html.escape(model_name)}</h2>{html.escape(about)}")
        with gr.Row():
            with gr.Column():
                drop = gr.File(label="Photos to label", file_count="multiple", height=140)
                # The original name may have characters that the name of the uploaded file cannot have.
                drop.preprocess = lambda files: [(file.orig_name, file.path) for file in files or ()]
                summary = gr.HTML()
                with gr.Column(visible=False) as overview:
                    grid = gr.Gallery(columns=3, height="50vh", allow_preview=False, show_label=False, buttons=[])
                    table = gr.DownloadButton("Download the labels of checked photos (CSV)", variant="primary")
            with gr.Column(visible=False) as details:
                image = gr.Image(interactive=False, format="jpeg", buttons=["fullscreen"], elem_id="photo")
                with gr.Row(visible=len(views) > 1):
                    view = gr.Radio(views, value=PHOTO, label="Show", scale=3, min_width=270)
                    name = gr.Dropdown([], label="of the class", interactive=True, min_width=120)
                bars = gr.HTML(elem_id="bars")
                labels = gr.CheckboxGroup(names, label="Labels: click to correct them", interactive=True)
                right = gr.Button("All labels are right ✓")
        show_photo = {"fn": show, "inputs": [photos, index], "outputs": [labels, name, bars]}
        draw_photo = {"fn": draw, "inputs": [photos, index, view, name], "outputs": image}
        added = drop.upload(add, [drop, photos], [drop, photos, index, summary, overview, details, grid, table])
        selected = grid.select(select, None, index, show_progress="hidden")
        for event in added, selected:
            event.success(**show_photo, show_progress="hidden").success(**draw_photo)
        gr.on([view.input, name.input], **draw_photo)
        # Each click is sent with the number of its photo, also during the work for the last click.
        checking = {"outputs": [grid, table], "trigger_mode": "multiple", "show_progress": "hidden"}
        labels.input(correct, [photos, index, labels], **checking, concurrency_id="checking")
        right.click(confirm, [photos, index], **checking, concurrency_id="checking")
    return page


def _write_preview(path: str) -> str:
    """Write a small JPEG of a photo next to its file, and return the path of the JPEG."""
    image = RecordImage({"file_name": path})
    preview = Image.fromarray(image.decode(max_reduction(image.height, image.width, SIDE))[0])
    preview.thumbnail((SIDE, SIDE))
    preview.save(f"{path}.preview.jpg", quality=88)
    return f"{path}.preview.jpg"
