"""Index documents and answer queries with one rival, as its documentation does it; one process.

    python index_and_query.py NAME DOCUMENTS.jsonl QUERIES.jsonl MODEL_FOLDER WORK_FOLDER

Prints one JSON object: for each query the ids of the ten best documents.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

Records = list[dict[str, str]]
Ranked = dict[str, list[str]]
K = 10


def sentence_transformers_faiss(documents: Records, queries: Records, model: str, _work: Path) -> Ranked:
    import faiss
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    vectors = encoder.encode([one["text"] for one in documents], normalize_embeddings=True)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    found: Ranked = {}
    for query in queries:
        _, places = index.search(encoder.encode([query["text"]], normalize_embeddings=True), K)
        found[query["_id"]] = [documents[place]["_id"] for place in places[0]]
    return found


def txtai(documents: Records, queries: Records, model: str, work: Path) -> Ranked:
    from txtai import Embeddings

    embeddings = Embeddings(path=model, content=True)
    embeddings.index((one["_id"], one["text"], None) for one in documents)
    embeddings.save(str(work / "txtai"))
    return {query["_id"]: [hit["id"] for hit in embeddings.search(query["text"], K)] for query in queries}


def lancedb_registry(documents: Records, queries: Records, model: str, work: Path) -> Ranked:
    import lancedb
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    function = get_registry().get("sentence-transformers").create(name=model, device="cpu")

    class Document(LanceModel):
        id: str
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(str(work / "lance")).create_table("documents", schema=Document)
    table.add([{"id": one["_id"], "text": one["text"]} for one in documents])
    return {
        query["_id"]: [row["id"] for row in table.search(query["text"]).limit(K).to_list()]
        for query in queries
    }


def chroma(documents: Records, queries: Records, model: str, work: Path) -> Ranked:
    import chromadb
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    function = SentenceTransformerEmbeddingFunction(model_name=model, device="cpu", normalize_embeddings=True)
    client = chromadb.PersistentClient(path=str(work / "chroma"))
    collection = client.create_collection("documents", embedding_function=function)
    collection.add(ids=[one["_id"] for one in documents], documents=[one["text"] for one in documents])
    return {
        query["_id"]: collection.query(query_texts=[query["text"]], n_results=K)["ids"][0]
        for query in queries
    }


def llama_index(documents: Records, queries: Records, model: str, work: Path) -> Ranked:
    from llama_index.core import Document, Settings, VectorStoreIndex
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    Settings.embed_model = HuggingFaceEmbedding(model_name=model, device="cpu")
    Settings.llm = None
    # one node per document, as the others have it
    Settings.chunk_size = 2_048
    index = VectorStoreIndex.from_documents(
        [Document(text=one["text"], metadata={}, doc_id=one["_id"]) for one in documents]
    )
    index.storage_context.persist(str(work / "llama"))
    retriever = index.as_retriever(similarity_top_k=K)
    return {
        query["_id"]: [hit.node.ref_doc_id for hit in retriever.retrieve(query["text"])] for query in queries
    }


RIVALS: dict[str, Callable[[Records, Records, str, Path], Ranked]] = {
    "sentence-transformers + FAISS": sentence_transformers_faiss,
    "txtai": txtai,
    "LanceDB registry": lancedb_registry,
    "Chroma": chroma,
    "LlamaIndex": llama_index,
}


def main() -> None:
    name, documents, queries, model, work = sys.argv[1:]
    records = [
        [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
        for file in (documents, queries)
    ]
    print(json.dumps(RIVALS[name](records[0], records[1], model, Path(work))))


if __name__ == "__main__":
    main()
