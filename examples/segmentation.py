"""Segmentation in a loop of your own: which loss finds small discs best, by the overlap of areas?"""

import numpy as np
import torch
from torch import nn

import lossmith

SIZE = 16
generator = np.random.default_rng(0)
centres, radii = generator.integers(4, SIZE - 4, size=(600, 2, 1, 1)), generator.integers(2, 5, size=(600, 1, 1))
y, x = np.mgrid[:SIZE, :SIZE]
discs = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 <= radii**2
masks = torch.tensor(discs).long()  # (600, 16, 16): 0 is background, 1 a disc
images = torch.tensor(discs + generator.normal(scale=0.6, size=discs.shape)).float().unsqueeze(1)


def train(run):
    """Train once, as the run says."""
    train, valid, test = run.split(len(images))
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 1)
    ).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), run.lr, weight_decay=run.weight_decay)

    @torch.no_grad()
    def predicted(part):
        return model(images[part].to(run.device)), masks[part]

    for step in range(1, run.steps + 1):
        batch = train[torch.randint(len(train), (16,))]
        optimizer.zero_grad()
        run.loss(model(images[batch].to(run.device)), masks[batch].to(run.device)).backward()
        optimizer.step()
        run.loss.step()
        if step % 10 == 0:
            logits, truth = predicted(valid)
            right = (logits.argmax(1).cpu() == 1) & (truth == 1)
            run.log(step, float(2 * right.sum() / ((logits.argmax(1) == 1).sum().cpu() + truth.sum())))
        if run.should_stop:
            break
    return predicted(valid), predicted(test) if run.final else None


if __name__ == "__main__":
    result = lossmith.compare(train, losses="soft_dice", steps=40, lrs=3, folds=0)
    print(result.table[["loss", "score", "verdict"]].to_string(index=False))
    print(result.recommendation)
