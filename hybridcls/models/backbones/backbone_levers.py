"""Read and check the lever keys of a HybridBackbone."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

from hybridcls.checks import check_known_keys, check_number
from hybridcls.signatures import arguments_of

from ..adapters import LoRASettings, MergingRatio
from ..modules import CBAM, TokenLearner

__all__ = ['BackboneLevers']

# Which stream a lever works on, and its words for it.
_WORKS_ON = dict(
    use_cbam=('cnn', 'map of the CNN stream'),
    token_learner_tokens=('vit', 'vit stream'),
    token_merging_ratio=('vit', 'vit stream'),
)


class BackboneLevers(NamedTuple):
    """The levers of a HybridBackbone, whose docstring describes the keys.

    Args:
        cbam (dict, optional): Settings of :class:`CBAM`; None: off.
        token_learner (dict, optional): Settings of :class:`TokenLearner`; None: off.
        after_block (int, optional): The number of blocks of the vit that come before the TokenLearner; None: all.
        token_merging (float | Sequence[float] | dict): What :class:`MergingSchedule` takes; 0: off.
        lora (dict[str, LoRASettings]): The settings of each stream that is adapted.
    """

    cbam: Optional[dict]
    token_learner: Optional[dict]
    after_block: Optional[int]
    token_merging: MergingRatio
    lora: dict[str, LoRASettings]

    @classmethod
    def read(
        cls,
        streams: Mapping[str, dict],
        use_cbam: Union[bool, dict] = False,
        token_learner_tokens: Union[int, dict] = 0,
        token_merging_ratio: MergingRatio = 0.0,
        lora_rank: Union[int, dict] = 0,
        lora_alpha: Optional[float] = None,
    ) -> 'BackboneLevers':
        """Read the lever keys of a backbone with these streams.

        Args:
            streams (Mapping[str, dict]): The configs of the streams that are given, by name.
            use_cbam, token_learner_tokens, token_merging_ratio, lora_rank, lora_alpha: See :class:`HybridBackbone`.

        Raises:
            ValueError: If a lever's stream is not given, or gives another output than the lever needs.
            TypeError: If a lever has another type, or a key that it does not know.

        Example:
            >>> levers = BackboneLevers.read(dict(vit={}), token_learner_tokens=dict(num_tokens=4, after_block=2))
            >>> levers.token_learner, levers.after_block, levers.cbam, levers.lora
            ({'num_tokens': 4}, 2, None, {})
        """
        levers = cls(
            _read_cbam(use_cbam),
            *_read_token_learner(token_learner_tokens),
            token_merging_ratio,
            {
                name: settings
                for name in streams
                if (settings := LoRASettings.read(lora_rank, lora_alpha, name)) is not None
            },
        )
        is_on = (levers.cbam is not None, levers.token_learner is not None, token_merging_ratio != 0)
        for (key, (stream, where)), on in zip(_WORKS_ON.items(), is_on, strict=True):
            if on and stream not in streams:
                raise ValueError(f'HybridBackbone: {key} works on the {where}, and {stream} is not given.')
        if levers.cbam is not None and streams['cnn'].get('output') == 'tokens':
            raise ValueError(
                "HybridBackbone: use_cbam needs the CNN's map, and cnn has output='tokens'. Drop that key or use_cbam."
            )
        if levers.token_learner is not None and streams['vit'].get('out_indices') is not None:
            raise ValueError(
                'HybridBackbone: TokenLearner gives tokens, and out_indices of vit asks for maps. Drop one of them.'
            )
        if levers.summarizes_all and streams['vit'].get('output') == 'vector':
            raise ValueError(
                'HybridBackbone: TokenLearner needs the tokens of the vit stream, and vit has '
                "output='vector'. Drop that key, or place it earlier with "
                'token_learner_tokens=dict(num_tokens=8, after_block=6).'
            )
        return levers

    @property
    def summarizes_all(self) -> bool:
        """Whether the TokenLearner follows the last block."""
        return self.token_learner is not None and self.after_block is None


def _read_cbam(value: Any) -> Optional[dict]:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        raise TypeError(
            f'HybridBackbone: expected use_cbam=True, False or dict(reduction=...), got use_cbam={value!r}.'
        )
    check_known_keys('HybridBackbone: use_cbam', value, arguments_of(CBAM)[0][1:])  # without channels
    # An empty dict is off, as it was when a lever was on by its truth.
    return dict(value) or None


def _read_token_learner(value: Any) -> tuple[Optional[dict], Optional[int]]:
    """Return the settings of TokenLearner, and the block that it follows."""
    if not isinstance(value, dict):
        check_number('HybridBackbone', 'token_learner_tokens', value, 0, integer=True, advice='0 switches it off.')
        value = dict(num_tokens=value)
    if 'num_tokens' not in value:
        raise ValueError(f"HybridBackbone: token_learner_tokens={dict(value)} lacks the key 'num_tokens'.")
    known = ['after_block', *arguments_of(TokenLearner)[0][1:]]
    check_known_keys('HybridBackbone: token_learner_tokens', value, known)
    settings = {key: entry for key, entry in value.items() if key != 'after_block'}
    return (settings, value.get('after_block')) if value['num_tokens'] else (None, None)
