"""The networks, all of Stable Diffusion 2's architecture, only smaller."""
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 128  # of the text encoder, and so of the UNets' cross-attention
TOKENS = 77


def vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=128, norm_num_groups=32, act_fn="silu",
        block_out_channels=[32, 64, 96, 128], layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)


def text_encoder(tokenizer):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4,
        num_attention_heads=WIDTH // 64, max_position_embeddings=TOKENS, hidden_act="gelu", projection_dim=WIDTH,
        pad_token_id=0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id))


def unet(in_channels=4):
    return UNet2DConditionModel(
        sample_size=16, in_channels=in_channels, out_channels=4, layers_per_block=1, norm_num_groups=32, act_fn="silu",
        block_out_channels=[64, 128, 128, 96], attention_head_dim=[1, 2, 2, 3], cross_attention_dim=WIDTH,
        use_linear_projection=True,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)


def scheduler():
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction", timestep_spacing="leading")
