"""The built-in model: LightningDrag at small size, motion first and then the picture.

``evidence`` turns an edit into tensors, ``network`` holds the three networks (appearance encoder,
motion generator, renderer), ``model`` samples them behind the editor's protocol.
"""
