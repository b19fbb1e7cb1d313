from words import GREETING


def main(args):
    print("greets", args["name"])
    return {"greeting": f"{GREETING} {args['name']}"}
