from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError


class MediaError(DomainError):
    """Unusable, or too costly. The reason is in ``detail``."""

    code = "media_error"
    status = 422
    title = _("The file cannot be decoded")


class UndecodableAudio(MediaError):
    code = "undecodable_audio"
    title = _("The audio cannot be decoded")


class TruncatedAudio(MediaError):
    code = "truncated_audio"
    title = _("The audio ends before its own header says it does")


class NoAudioStream(MediaError):
    code = "no_audio_stream"
    title = _("There is no audio in this file")


class VideoNotAccepted(MediaError):
    code = "video_not_accepted"
    status = 415
    title = _("There is a film in this file")


class UnsupportedCodec(MediaError):
    """The file may be whole."""

    code = "unsupported_codec"
    title = _("This installation cannot decode the audio")


class MediaTimeLimit(MediaError):
    code = "media_time_limit"
    title = _("Decoding the file took too long")


class MediaMemoryLimit(MediaError):
    code = "media_memory_limit"
    title = _("Decoding the file took too much memory")


class MediaCrashed(MediaError):
    code = "media_crashed"
    title = _("The file made its decoder crash")


class ImageUnreadable(MediaError):
    code = "image_unreadable"
    title = _("The image is damaged or cut short")


class ImageTooLarge(MediaError):
    code = "image_too_large"
    title = _("The image has too many pixels")


class PicturesBusy(DomainError):
    """Nothing was stored."""

    code = "pictures_busy"
    status = 503
    title = _("Too many pictures are being looked at")


class UnsupportedImage(MediaError):
    code = "unsupported_image"
    status = 415
    title = _("Images must be JPEG, PNG or WebP")
