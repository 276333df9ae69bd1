from audiotricks.plug import VaultApp


class ObjectStoreConfig(VaultApp):
    name = "objectstore"

    registers = ("objectstore.checks",)
