"""Training batches, with random crops and mirroring, as a function of the seed and the iteration."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset, Sampler

from .mapper import MultiLabelMapper
from .views import View


class RandomCrop(NamedTuple):
    """A distribution of crops in fractions of an image, so that a crop can be drawn before the image is read.

    Attributes:
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest ratio of width to height, divided by the image's ratio; narrowed if the crop would
            not fit into the image.
    """

    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333)

    def draw(self, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 with a uniform area, a log-uniform aspect and a uniform position."""
        area = generator.uniform(*self.area)
        aspect = math.exp(generator.uniform(*np.log(self.aspect)))
        aspect = min(max(aspect, area), 1 / area)
        width, height = min(math.sqrt(area * aspect), 1), min(math.sqrt(area / aspect), 1)
        x0, y0 = generator.random(2) * (1 - width, 1 - height)
        return float(x0), float(y0), min(float(x0 + width), 1.0), min(float(y0 + height), 1.0)


class ImageView(NamedTuple):
    """An image of a batch, by its index in the dataset, and its view."""

    index: int
    view: View


class TrainingBatchSampler(Sampler[list[ImageView]]):
    """An infinite sampler: each epoch is a new random permutation, and all views of a batch have the same size.

    Each image may be mirrored and cropped.

    Batch ``i`` depends only on the seed and ``i``, not on other batches. A run that is resumed at ``start_iteration``
    therefore gets the batches of the uninterrupted run.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        sizes: Sequence[int],
        *,
        seed: int,
        unlabeled: tuple[int, int] = (0, 0),
        mirror: bool = True,
        crop: RandomCrop | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        """
        Args:
            num_images: number of images of the dataset.
            batch_size: number of images in a batch over all processes; a multiple of ``world_size``.
            sizes: sides of the square views in pixels; the sampler draws one for each batch.
            seed: seed of all random draws.
            unlabeled: (M, K). The last M images are unlabeled, and each batch has K of them. Labeled and unlabeled
                images then have separate epochs. With K = 0, they form one pool.
            mirror: whether half of the images are mirrored.
            crop: distribution of crops; None for whole images.
            rank, world_size: rank of this process and number of processes. The process takes every ``world_size``-th
                image of a batch.
        """
        self.batch_size = batch_size
        last, count = unlabeled if unlabeled[1] else (0, 0)
        # Positions in a batch and the images that are drawn for them.
        self._pools = [
            (range(batch_size - count), range(num_images - last)),
            (range(batch_size - count, batch_size), range(num_images - last, num_images)),
        ]
        self.sizes = tuple(sizes)
        self.seed = seed
        self.mirror = mirror
        self.crop = crop
        self.rank = rank
        self.world_size = world_size
        self.start_iteration = 0
        self._permutations: dict[int, tuple[int, np.ndarray]] = {}

    def batch(self, iteration: int) -> list[ImageView]:
        """Return the images of this process in the batch of one iteration."""
        generator = np.random.default_rng((self.seed, 0, iteration))
        size = int(generator.choice(self.sizes))
        mirrored = generator.random(self.batch_size) < 0.5
        # Crops have a separate generator, so that enabling them does not change the other draws.
        crop_generator = np.random.default_rng((self.seed, 2, iteration))
        crops = [self.crop.draw(crop_generator) if self.crop else None for _ in range(self.batch_size)]
        indices = [index for pool, _ in enumerate(self._pools) for index in self._indices(pool, iteration)]
        views = []
        for position in range(self.rank, self.batch_size, self.world_size):
            view = View(size, bool(self.mirror and mirrored[position]), crops[position])
            views.append(ImageView(indices[position], view))
        return views

    def __iter__(self) -> Iterator[list[ImageView]]:
        iteration = self.start_iteration
        while True:
            yield self.batch(iteration)
            iteration += 1

    def _indices(self, pool: int, iteration: int) -> list[int]:
        """Return the images of one pool in a batch."""
        positions, images = self._pools[pool]
        indices = []
        for number in range(iteration * len(positions), (iteration + 1) * len(positions)):
            epoch, place = divmod(number, len(images))
            order = self._permutations.get(pool)
            if order is None or order[0] != epoch:
                order = epoch, np.random.default_rng((self.seed, 1, epoch, pool)).permutation(len(images))
                self._permutations[pool] = order  # read and written once, because several threads call this method
            indices.append(images[int(order[1][place])])
        return indices


class TrainingSamples(Dataset):
    """Samples of one or several datasets, indexed by :class:`ImageView`; ``parts`` has the records and mapper of each.

    The records are stored as bytes in one array, so that loader workers share them. A worker would copy the memory of
    Python objects on the first access.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[dict], MultiLabelMapper]]):
        self._mappers = [mapper for _, mapper in parts]
        self._ends = np.cumsum([len(records) for records, _ in parts])
        self._records = DatasetFromList([record for records, _ in parts for record in records])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, item: ImageView) -> dict:
        mapper = self._mappers[int(np.searchsorted(self._ends, item.index, side="right"))]
        return mapper(self._records[item.index], item.view)
