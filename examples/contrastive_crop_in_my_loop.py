"""ContrastiveCrop in a training loop of one's own: crops around the object's box, two views of each image.

    python examples/contrastive_crop_in_my_loop.py
"""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from evaluation.views import ContrastiveCrop
from zoo.data import open_data


class TwoViews(Dataset):
    """Images of `shapes` with their true boxes; use your own images, and the boxes of `pretrain boxes` or of a detector."""

    def __init__(self, count: int) -> None:
        images = open_data(f"shapes:train={count},test=10,size=64").role("train")
        self.pixels, self.boxes = images.pixels, images.extras["boxes"]
        self.augment = v2.Compose([ContrastiveCrop(48, alpha=0.6), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = tv_tensors.Image(torch.from_numpy(self.pixels[index]).permute(2, 0, 1))
        box = tuple(map(float, self.boxes[index]))
        return self.augment((image, box)), self.augment((image, box))


def main(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    first, second = next(iter(DataLoader(TwoViews(count), batch_size=16)))
    print(f"two views of {len(first)} images: {tuple(first.shape)}")
    return first, second


if __name__ == "__main__":
    main()
