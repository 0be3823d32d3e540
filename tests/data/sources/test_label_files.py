"""Files as annotation tools and users write them, made after the documented forms of the tools."""

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mlickd.data.catalog import available_datasets, class_names
from mlickd.data.checking.split_checks import check_datasets, report_text
from mlickd.data.sources.coco import load_coco_multilabel
from mlickd.data.sources.folder import load_folder_dataset, read_photo_labels
from mlickd.errors import InputError

PHOTOS = ["a.jpg", "sub/b.png", "C.JPG", "d e.jpg", unicodedata.normalize("NFD", "é.jpg"), "1/twin.jpg", "2/twin.jpg"]


def photo(path: Path, color: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (color, 0, 0)).save(path)
    return path.name


@pytest.fixture
def pets(tmp_path: Path, monkeypatch, catalogs) -> Path:
    """A folder of photos below the root of the datasets."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for color, name in enumerate(PHOTOS):
        photo(tmp_path / "pets" / "images" / name, color)
    return tmp_path / "pets"


def labels(pets: Path, split: str = "train") -> dict[str, list[str]]:
    dataset = load_folder_dataset(pets, split)
    return {each["image_id"]: [dataset.class_names[label] for label in each["labels"]] for each in dataset.records}


def table(pets: Path, text: str) -> dict[str, list[str]]:
    (pets / "classes.txt").write_text("cat\ndog\npotted plant")
    (pets / "labels_train.csv").write_text(text)
    return labels(pets)


NAMES = {
    "images/a.jpg": 0, r"images\a.jpg": 0, "a": 0, "A.jpg": 0, "pets/images/a.jpg": 0, r"C:\x\images\sub\b.png": 1,
    r"sub\b.png": 1, "b.png": 1, "Sub/B": 1, "c.jpg": 2, "https://x.org/p/d%20e.jpg?v=1#2": 3, "é.jpg": 4,
    "file:///d%20e.jpg": 3, "/data/local-files/?d=images%2Fsub/b.png": 1, "/data/upload/1/0a1b2c3d-a.jpg": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "ABSOLUTE"])
def test_a_file_name_of_another_program_is_found(pets, name, caplog):
    expected = PHOTOS[NAMES.get(name, 0)]
    written = str(pets / "images" / "a.jpg") if name == "ABSOLUTE" else name
    assert table(pets, f"file_name,labels\n{written},dog\n") == {expected: ["dog"]}
    assert str(pets / "labels_train.csv") in caplog.text and expected in caplog.text
    content = {"images": [{"id": 1, "file_name": written}], "categories": [], "annotations": []}
    (pets / "boxes.json").write_text(json.dumps(content))
    record = load_coco_multilabel(pets / "boxes.json", pets / "images").records[0]
    assert record["file_name"] == str(pets / "images" / expected)


@pytest.mark.parametrize(
    "text",
    [
        "file_name,labels\na.jpg,dog\na.jpg,cat\nb.png,\nb.png,\n",
        ",file_name,labels\n0,a.jpg,dog;cat\n1,sub/b.png,\n",
        "Unnamed: 0,filename,Label\n0,a.jpg,dog|cat\n1,sub/b.png,\n",
        "file_name,labels,,\na.jpg,dog,cat,\nsub/b.png,,,\n",
        'image,tags\na.jpg,"dog, cat"\nsub/b.png,\n',
        "image_id,tags\na,dog cat\nb,\n",
        "file_name;labels\na.jpg;dog;cat\nsub/b.png;\n",
        "file_name\tlabels\na.jpg\t['dog', 'cat']\nsub/b.png\t[]\n",
        "file_name,labels\na.jpg,['dog' 'cat']\nsub/b.png,()\n",
        ",file_name,dog,cat,potted plant,\n0,a.jpg,True,TRUE,0,\n1,sub/b.png,False,0.0,0,\n",
    ],
)
def test_an_unambiguous_table_is_read(pets, text):
    expected = {"a.jpg": ["cat", "dog"], "sub/b.png": []}
    assert table(pets, text) == expected
    file = (pets / "labels_train.csv").rename(pets.parent / "mine.txt")
    names, rows = read_photo_labels(file, pets / "images")
    if "dog cat" not in text:  # without classes.txt, this can be one class
        assert {name: sorted(names[label] for label in values[0]) for name, values in rows.items()} == expected


def roboflow(pets: Path) -> None:
    for split, row in (("train", "a.jpg, 1, 1"), ("valid", "a.jpg, 0, 0"), (".", "sub/b.png, 0, 1")):
        photo(pets / split / "a.jpg", 5)
        (pets / split / "_classes.csv").write_text(f"filename, dog, cat\n{row}\n")


def roboflow_boxes(pets: Path) -> None:
    box = {"image_id": 0, "bbox": [0, 0, 2, 2]}
    for split, ids in (("train", (1, 2)), ("valid", ())):
        photo(pets / split / "a.jpg")
        names = enumerate(["pets", "dog", "cat"])
        content = {"images": [{"id": 0, "file_name": "a.jpg"}], "categories": [{"id": i, "name": n} for i, n in names]}
        content["annotations"] = [{**box, "category_id": i} for i in ids]
        (pets / split / "_annotations.coco.json").write_text(json.dumps(content))


def task(choices: list[str], **annotation) -> dict:
    result = [{"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": choices}}]
    return {"id": 1, "result": result, "was_cancelled": False, **annotation}


def label_studio(pets: Path) -> None:
    data = {"text": "x", "image": "/data/upload/1/0a1b2c3d-a.jpg"}
    taxonomy = {"type": "taxonomy", "value": {"taxonomy": [["cat"]]}}
    first = {"id": 7, "data": data, "annotations": [task(["dog"])]}
    first["annotations"][0]["result"].append(taxonomy)
    skipped = {"id": 8, "data": {"image": "C.JPG"}, "annotations": [task(["cow"], was_cancelled=True)]}
    (pets / "labels_train.json").write_text(json.dumps([first, skipped]))
    header = "image,id,choice,annotator,annotation_id,created_at,updated_at,lead_time"
    (pets / "labels_valid.csv").write_text(f"{header}\nhttp://x/a.jpg,7,dog,1,1,,,2.5\n")
    minimal = {"image": "a.jpg", "id": 7, "choice": {"choices": ["dog", "cat"]}, "annotation_id": 3, "lead_time": 2.5}
    again = {**minimal, "choice": [{"taxonomy": [["cat"]]}, {"x": 1, "rectanglelabels": ["dog"]}]}
    (pets / "project-1-at-2024-05-02-10-20-ab12cd34.json").write_text(json.dumps([minimal, again]))


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>
<label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>
<image id="0" name="images/a.jpg" width="8" height="6"><tag label="cat" source="manual"></tag>
<box label="dog" xtl="0" ytl="0" xbr="2" ybr="2"></box></image></annotations>"""


def class_folders(pets: Path) -> None:
    for split, name in (("train", "cat/x.jpg"), ("train", "dog/y.jpg"), ("train", "dog/z.jpg"), ("valid", "dog/x.jpg")):
        photo(pets / split / name, 7 + (name == "dog/z.jpg"))


BOTH, DOG = {"a.jpg": ["cat", "dog"]}, {"a.jpg": ["dog", "cat"]}
X = {"cat/x.jpg": ["cat", "dog"], "dog/z.jpg": ["dog"]}


@pytest.mark.parametrize(
    ("write", "form", "classes", "train", "other"),
    [
        (roboflow, "Roboflow", ["dog", "cat"], DOG, ("valid", {"a.jpg": []})),
        (roboflow_boxes, "COCO", ["dog", "cat"], DOG, ("valid", {"a.jpg": []})),
        (label_studio, "Label Studio", ["cat", "dog"], BOTH, ("all", BOTH)),
        (lambda pets: (pets / "labels_train.xml").write_text(CVAT), "CVAT", ["dog", "cat"], DOG, ("train", DOG)),
        (class_folders, "folder for each class", ["cat", "dog"], X, ("valid", {"dog/x.jpg": ["dog"]})),
    ],
)
def test_exports_are_datasets(pets, write, form, classes, train, other):
    write(pets)
    assert {"pets_train", f"pets_{other[0]}"} <= set(available_datasets()) and class_names("pets_train") == classes
    assert labels(pets) == train and labels(pets, other[0]) == other[1]
    assert form in report_text(check_datasets(["pets_train"], num_workers=1))


def test_cvat_may_write_a_class_with_decomposed_letters(pets):
    (pets / "labels_train.xml").write_text(CVAT.replace("dog", "cha\u0302t"), encoding="utf-8")
    assert class_names("pets_train") == ["ch\u00e2t", "cat"] and labels(pets) == {"a.jpg": ["ch\u00e2t", "cat"]}


LONG = "file_name,labels\n"
TWO = [{"id": 5, "data": {"image": "a.jpg"}, "annotations": [task(["dog"]), task(["cat"])]}]
BAD = [
    ("csv", LONG + "a.png,dog\n", r"line 2: file name 'a\.png'.*write a\.jpg"),
    ("csv", LONG + "other/b.png,dog\n", r"line 2: .*write sub/b\.png"),
    ("csv", LONG + "twin,dog\n", r"line 2: .*(1/twin\.jpg, 2/twin\.jpg)"),
    ("csv", LONG + "train/a.jpg,dog\ntest/a.jpg,dog\n", r"line 3: file name 'test/a\.jpg': 'train/a\.jpg'"),
    ("csv", LONG + "a.jpg,dog|potted plnt\n", "line 2: label 'potted plnt'"),
    ("csv", LONG + "a.jpg,dog potted\n", "line 2: label 'dog potted'"),
    ("csv", "file_name,dog,,cat,potted plant\na.jpg,1,0,1,1", "line 2: .*'0'"),
    ("csv", "file_name,dog,bird,cow,cat\n", "line 1: .*'bird' is wrong"),
    ("csv", "file_name,labels,label\n", "line 1: .*'label' is wrong"),
    ("json", json.dumps({"images": []}), "instances_<split>"),
    ("json", json.dumps([{"id": 5, "data": {}, "annotations": []}]), "task 5"),
    ("json", json.dumps(TWO), "task 5: 'a.jpg'"),
    ("xml", '<!DOCTYPE a [<!ENTITY b "c">]>' + CVAT[38:], "document type"),
    ("xml", "<annotations><track/></annotations>", "CVAT for images"),
    ("xml", CVAT.replace("images/a.jpg", "z.jpg"), "image 0: file name 'z.jpg'"),
]


@pytest.mark.parametrize(("suffix", "text", "message"), BAD)
def test_the_first_wrong_field_is_named(pets, suffix, text, message):
    (pets / f"labels_train.{suffix}").write_text(text)
    (pets / "classes.txt").write_text("cat\ndog\npotted plant")
    with pytest.raises(InputError, match=f"labels_train.{suffix}.*{message}"):
        load_folder_dataset(pets, "train")


def test_a_roboflow_table_without_classes_is_refused(pets):
    photo(pets / "new" / "a.jpg")
    (pets / "new" / "_classes.csv").write_text("filename\na.jpg\n")
    with pytest.raises(InputError, match="new/_classes.csv: has no label"):
        load_folder_dataset(pets, "new")


def test_splits_are_not_classes(pets):
    for split in ("train", "valid", "test"):
        photo(pets.parent / "plain" / split / "a.jpg")
    assert not any(name.startswith("plain") for name in available_datasets())


def test_white_space_in_names_of_classes_and_lines_in_a_cell(pets):
    path = pets / "own.csv"
    path.write_text('file_name,labels,created_at\na.jpg,"cat\n potted  plant ",1;2\nsub/b.png,cat,\n')
    names, rows = read_photo_labels(path, pets / "images")
    assert names == ["cat", "potted plant"] and rows["a.jpg"][0] == {0, 1}
    content = {"images": [], "categories": [{"id": 1, "name": "potted  plant "}], "annotations": []}
    (pets / "boxes.json").write_text(json.dumps(content))
    assert load_coco_multilabel(pets / "boxes.json", pets / "images").class_names == ["potted plant"]
    xml = '<annotations><image name="a.jpg"><tag label=" potted plant"/></image></annotations>'
    (pets / "classes.txt").write_text("potted plant")
    (pets / "annotations.xml").write_text(xml)
    assert labels(pets, "all") == {"a.jpg": ["potted plant"]}


def test_a_broken_link_is_named(pets):
    for name in ("train/cat/a.jpg", "train/dog/b.jpg"):
        photo(pets.parent / "linked" / name)
    (pets.parent / "linked/train/cat/gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match=r"cat/gone\.jpg: cannot be read"):
        labels(pets.parent / "linked")


def test_a_table_may_be_in_utf_16(pets):
    text = "file_name\tlabels\na.jpg\tdög\n"
    (pets / "classes.txt").write_text("dög", encoding="utf-8")
    (pets / "labels_train.csv").write_text(text, encoding="utf-16")
    assert labels(pets) == {"a.jpg": ["dög"]}
    (pets / "labels_train.csv").write_text(text, encoding="cp1252")
    with pytest.raises(InputError, match="labels_train.csv.*UTF-8"):
        labels(pets)


def test_photos_may_be_next_to_the_table(pets):
    (pets / "images").rename(pets / "shots")
    found = table(pets, f"path,tag\n{pets}/shots/a.jpg,cat\nhttps://x/b.png,dog\n")
    assert found == {"shots/a.jpg": ["cat"], "shots/sub/b.png": ["dog"]}


def test_ids_may_be_whole_floats_or_text_but_not_both(pets):
    def load(image_id: object, category_id: object, used: object) -> list[dict]:
        box = {"image_id": used, "category_id": category_id, "bbox": [0, 0, 2, 2]}
        image = {"id": image_id, "file_name": "a.jpg", "width": 8.0, "height": 6}
        content = {"images": [image], "categories": [{"id": category_id, "name": "cat"}], "annotations": [box]}
        (pets / "boxes.json").write_text(json.dumps(content))
        return load_coco_multilabel(pets / "boxes.json", pets / "images").records

    for ids in ((1, 1.0, 1.0), (1.0, 2, 1), ("1", "2", "1")):
        record = load(*ids)[0]
        assert record["labels"] == [0] and str(record["image_id"]) == "1" and record["width"] == 8
    for image_id, used in ((1, "1"), ("1", 1)):
        with pytest.raises(InputError, match=f"boxes.json: .*{used!r}.*text"):
            load(image_id, 2, used)
