"""Gradients of a margin head in each precision against float64, on class weights before, during and after a training.

    python tools/benchmark.py head_precision [--classes 4000] [--batch 256] [--dim 512] [--steps 400] [--device cpu]
    python tools/benchmark.py head_precision --supcon     # of streamed SupCon, on embeddings of a layer that it trains

Class weights are trained by ArcFace (scale 64, margin 0.5) on embeddings around a prototype of each class. Compared are
the gradients of fresh batches, as far from the prototypes as those of the training, or nearer. An error is the
norm of the difference over the norm of the gradient; "worst embedding" is that of a single row. A CPU has no TF32.
"""

import argparse

import torch
import torch.nn.functional as F

from hybridcls.functional import angular_margin_on_target, margin_cross_entropy
from hybridcls.functional.contrastive import supervised_contrast
from hybridcls.functional.product_precision import PRODUCT_PRECISIONS

SCALE, MARGIN = 64.0, 0.5


def arc_margin(cosine, norms):
    """ArcFace."""
    return angular_margin_on_target(cosine, MARGIN)


class Identities:
    """Embeddings of norm 10 to 30 around a prototype of each class; ``noise`` is their distance from it."""

    def __init__(self, num_classes, batch, dim, device):
        self.generator = torch.Generator().manual_seed(0)
        self.batch, self.device = batch, device
        self.prototypes = F.normalize(torch.randn(num_classes, dim, generator=self.generator))
        self.start = 0.01 * torch.randn(num_classes, dim, generator=self.generator)

    def draw(self, noise):
        """Return embeddings and labels."""
        num_classes, dim = self.prototypes.shape
        labels = torch.randint(num_classes, (self.batch,), generator=self.generator)
        around = torch.randn(self.batch, dim, generator=self.generator) * dim**-0.5
        norms = 10 + 20 * torch.rand(self.batch, 1, generator=self.generator)
        return (norms * F.normalize(self.prototypes[labels] + noise * around)).to(self.device), labels.to(self.device)


def trained(identities, steps, watch=lambda step, class_weights: None):
    """Train class weights, and return them; ``watch`` is called before each step."""
    class_weights = identities.start.to(identities.device).requires_grad_()
    optimizer = torch.optim.Adam([class_weights], lr=2e-3)
    for step in range(steps):
        watch(step, class_weights.detach())
        embeddings, labels = identities.draw(1.0)
        loss, _ = margin_cross_entropy(embeddings, class_weights, labels, arc_margin, SCALE, softmax='streamed')
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return class_weights.detach()


def gradients(problem, precision, dtype=torch.float32):
    """Return the loss and both gradients."""
    embeddings, class_weights, labels = problem
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (embeddings, class_weights)]
    loss, _ = margin_cross_entropy(*leaves, labels, arc_margin, SCALE, softmax='streamed', precision=precision)
    loss.backward()
    return loss.detach().double(), *(leaf.grad.double() for leaf in leaves)


def errors(problem, precision, exact):
    """Return the relative errors of the loss, of both gradients, and of the worst row of the embeddings' gradient."""
    loss, to_embeddings, to_weights = gradients(problem, precision)
    wrong = (to_embeddings - exact[1]).norm(dim=1) / exact[1].norm(dim=1)
    return {
        'loss': float(((loss - exact[0]) / exact[0]).abs()),
        'embeddings': float((to_embeddings - exact[1]).norm() / exact[1].norm()),
        'class weights': float((to_weights - exact[2]).norm() / exact[2].norm()),
        'worst embedding': float(wrong.max()),
    }


def supcon(args):
    """Print the errors of the gradient of embeddings, two views an image, of a layer before and after a training."""
    identities = Identities(args.classes, args.batch, args.dim, args.device)
    width = min(128, args.dim)
    start = torch.randn(args.dim, width, generator=identities.generator) * args.dim**-0.5
    layer = start.to(args.device).requires_grad_()
    optimizer = torch.optim.Adam([layer], lr=2e-3)

    def views(noise):
        embeddings, labels = identities.draw(noise)
        again = torch.randn(embeddings.shape, generator=identities.generator).to(embeddings)
        again = embeddings + noise * args.dim**-0.5 * embeddings.norm(dim=1, keepdim=True) * again
        return torch.stack([embeddings, again], 1), labels

    def gradient(embeddings, labels, precision, dtype=torch.float32):
        leaf = embeddings.to(dtype, copy=True).requires_grad_()
        loss = supervised_contrast(leaf, labels, 0.1, precision=precision, streamed=True)
        return loss.detach().double(), torch.autograd.grad(loss, leaf)[0].double()

    print('| layer after | noise | loss | precision | loss error | embeddings | worst embedding |\n' + '|---' * 7 + '|')
    for step in range(args.steps + 1):
        for noise in {0: (1.0,), args.steps // 3: (1.0,), args.steps: (1.0, 0.5)}.get(step, ()):
            batch, labels = views(noise)
            embeddings = (batch @ layer).detach()
            loss, exact = gradient(embeddings, labels, 'float32', torch.float64)
            for precision in PRODUCT_PRECISIONS:
                own, found = gradient(embeddings, labels, precision)
                errors = (own - loss).abs() / loss, (found - exact).norm() / exact.norm()
                worst = ((found - exact).norm(dim=2) / exact.norm(dim=2)).max()
                numbers = ' | '.join(f'{float(error):.1e}' for error in (*errors, worst))
                print(f'| {step} steps | {noise} | {loss:.2g} | {precision} | {numbers} |', flush=True)
        batch, labels = views(1.0)
        optimizer.zero_grad()
        supervised_contrast(batch @ layer, labels, 0.1).backward()
        optimizer.step()


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, default=4000)
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--dim', type=int, default=512)
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--supcon', action='store_true', help='of streamed SupCon instead of a margin head')
    args = parser.parse_args()
    if args.supcon:
        supcon(args)
        return
    identities = Identities(args.classes, args.batch, args.dim, args.device)
    print(f'{args.classes:,} classes, B = {args.batch}, D = {args.dim}, {args.steps} steps, {args.device}\n')
    names = 'loss error', 'embeddings', 'class weights', 'worst embedding'
    print('| ' + ' | '.join(['weights after', 'noise', 'cosine', 'loss', 'precision', *names]) + ' |')
    print('|---' * 9 + '|')

    def compare(step, class_weights, noise=1.0):
        embeddings, labels = identities.draw(noise)
        cosine = F.cosine_similarity(embeddings, class_weights[labels]).mean()
        problem = embeddings, class_weights, labels
        exact = gradients(problem, 'float32', torch.float64)
        for precision in PRODUCT_PRECISIONS:
            found = ' | '.join(f'{error:.1e}' for error in errors(problem, precision, exact).values())
            print(f'| {step} steps | {noise} | {cosine:.2f} | {exact[0]:.2g} | {precision} | {found} |', flush=True)

    def watch(step, class_weights):
        if step in (0, args.steps // 8, args.steps // 3):
            compare(step, class_weights)

    class_weights = trained(identities, args.steps, watch)
    for noise in (1.0, 0.7):
        compare(args.steps, class_weights, noise)


if __name__ == '__main__':
    main()
