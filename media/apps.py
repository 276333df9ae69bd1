from audiotricks.plug import VaultApp


class MediaConfig(VaultApp):
    name = "media"

    registers = ("media.checks",)
